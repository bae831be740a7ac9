"""`ledgergate migrate down`: each migration is undone together with its row, all of what was asked for or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from migrations.dialects.native import NATIVE
from migrations.postgres import advisory_lock

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

PYTHON = """async def up(connection):
    await connection.execute("create table python (id int)")


async def down(connection):
    await connection.execute("drop table python")
"""


def fill(ledgergate: Ledgergate) -> None:
    """Apply two batches of two: tables a and b; c outside a transaction, and a Python one."""
    for name in "ab":
        ledgergate.write(name, f"create table {name} (id int)", down=f"drop table {name};")
    assert ledgergate("up").returncode == 0
    path = ledgergate.write("c", "create index concurrently c on a (id)", "transaction:false")
    path.write_text(f"{path.read_text()[:-1]}".replace("-- migrate:down", "-- migrate:down transaction:false"))
    path.write_text(path.read_text() + "drop index concurrently c;\nselect 1;\n")
    ledgergate.write("20250101000003_python.py", PYTHON)
    assert ledgergate("up").returncode == 0


async def recorded(connection: Connection) -> list[str]:
    rows = await connection.fetch("select revision from ledgergate_migrations order by revision")
    return [row["revision"].partition("_")[2] for row in rows]


async def relations(connection: Connection) -> list[str]:
    rows = await connection.fetch(
        "select relname from pg_class where relname in ('a', 'b', 'c', 'python') order by relname"
    )
    return [row["relname"] for row in rows]


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ((), ["a", "b"]),
        (("--steps", "1"), ["a", "b", "c"]),
        (("--steps", "3"), ["a"]),
        (("--steps", "99"), []),
        (("--to", "20250101000000_a.sql"), ["a"]),
        (("--to", "20250101000003_python"), ["a", "b", "c", "python"]),
    ],
)
async def test_what_is_undone(
    ledgergate: Ledgergate, connection: Connection, flags: Sequence[str], left: list[str]
) -> None:
    """The last batch, the newest N or all newer ones are undone; ledger and schema agree; `up` applies them again."""
    fill(ledgergate)
    done = ledgergate("down", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert await recorded(connection) == await relations(connection) == left
    lines = done.stdout.splitlines()
    undone = sorted({"a", "b", "c", "python"} - set(left), reverse=True)
    assert [line.partition("_")[2] for line in lines if line.startswith("will undo")] == undone
    assert [line.split()[1].partition("_")[2] for line in lines if line.startswith("undid")] == undone
    assert ledgergate("up").returncode == 0
    assert await recorded(connection) == await relations(connection) == ["a", "b", "c", "python"]


async def test_each_removal_is_announced(ledgergate: Ledgergate, connection: Connection) -> None:
    """A migration that is undone in a transaction sends one NOTIFY, any other sends two (begun, ended)."""
    fill(ledgergate)
    heard: list[object] = []
    await connection.add_listener("ledgergate", lambda *arguments: heard.append(arguments[3]))
    assert ledgergate("down").returncode == 0
    await connection.execute("select 1")
    assert heard == ["20250101000003_python", "20250101000002_c", "20250101000002_c"]


async def test_every_obstacle_is_reported_before_anything_is_undone(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """Exit 2: a missing file, an edited one, one without a down section and one with an empty one are four problems."""
    gone = ledgergate.write("gone", "select 1", down="select 1;")
    edited = ledgergate.write("edited", "select 1", down="select 1;")
    ledgergate.write("empty", "select 1", down="-- nothing here")
    ledgergate.write("20250101000003_python.py", "async def up(connection): ...\n")
    ledgergate.write("fine", "create table a (id int)", down="drop table a;")
    assert ledgergate("up").returncode == 0
    gone.unlink()
    edited.write_text(edited.read_text() + "select 2;\n")

    done = ledgergate("down")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 4, done.stderr
    for words in ("000_gone is applied, but has no file", "001_edited.sql was changed", "002_empty.sql has no down"):
        assert words in done.stderr
    assert done.stdout == ""
    assert await relations(connection) == ["a"]
    assert len(await recorded(connection)) == 5


async def test_a_transactional_failure_leaves_its_migration_applied(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """Exit 1 with file and line of the down section; what was undone before it stays undone."""
    ledgergate.write("a", "create table a (id int)", down="drop table a;\n\nselect nonsense;")
    ledgergate.write("b", "create table b (id int)", down="drop table b;")
    assert ledgergate("up").returncode == 0
    done = ledgergate("down")
    assert done.returncode == 1
    assert "20250101000000_a.sql:6: " in done.stderr
    assert "20250101000000_a could not be undone. " in done.stderr
    assert await recorded(connection) == await relations(connection) == ["a"]
    assert await connection.fetchval("select state from ledgergate_migrations") == "applied"


async def test_a_failure_outside_a_transaction_is_recorded_and_settled_by_hand(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """The row says `failed` and that it was being undone; neither `up` nor `down` goes on before it is settled."""
    path = ledgergate.write("a", "create table a (id int)")
    path.write_text(f"{path.read_text()[:-2]} transaction:false\ndrop table a;\nselect nonsense;\n")
    assert ledgergate("up").returncode == 0
    done = ledgergate("down")
    assert done.returncode == 1
    assert "20250101000000_a.sql:5: " in done.stderr
    row = await connection.fetchrow("select state, error from ledgergate_migrations")
    assert row is not None
    assert row["state"] == "failed"
    assert row["error"].startswith("while it was undone: ")
    for command in ("up", "down"):
        refused = ledgergate(command)
        assert refused.returncode == 1, refused
        assert "resolve 20250101000000_a --rolled-back" in refused.stderr
    assert await relations(connection) == []


def test_a_target_must_be_applied(ledgergate: Ledgergate) -> None:
    """Exit 2 for a revision that the ledger lacks, and for two ways of counting at once."""
    ledgergate.write("a", "select 1", down="select 1;")
    assert "there is none" in ledgergate("down", "--to", "20250101000000_a").stderr
    assert ledgergate("up").returncode == 0
    done = ledgergate("down", "--to", "20250101000009_x")
    assert (done.returncode, "the newest one is 20250101000000_a" in done.stderr) == (2, True)
    assert ledgergate("down", "--to", "20250101000000_a", "--steps", "1").returncode == 2


def test_with_nothing_applied_there_is_nothing_to_undo(ledgergate: Ledgergate) -> None:
    """Exit 0, so that a rollback Job may be repeated."""
    done = ledgergate("down")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to undo" in done.stdout


async def test_who_cannot_get_the_lock_undoes_nothing(ledgergate: Ledgergate, connection: Connection) -> None:
    """Exit 4 while another run holds the lock."""
    fill(ledgergate)
    await connection.fetchval("select pg_advisory_lock($1)", advisory_lock.lock_key(NATIVE.relation()))
    assert ledgergate("down", "--lock-timeout", "0.2").returncode == 4
    assert len(await recorded(connection)) == 4


def test_a_contract_migration_says_so(ledgergate: Ledgergate) -> None:
    """It is undone as any other; the output names the images that it excluded."""
    ledgergate.write("a", "select 1", down="select 1;")
    ledgergate.write("b", "select 1", "contract compatible-from:20250101000000_a", down="select 1;")
    assert ledgergate("up").returncode == 0
    assert "images older than 20250101000000_a cannot run" in ledgergate("down", "--steps", "1").stdout
