"""`ledgergate migrate resolve`: settles a revision after the database was repaired by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from migrations.dialects.native import NATIVE
from migrations.postgres import advisory_lock

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

ONE = "20250101000000_one"


@pytest.fixture
def broken(ledgergate: Ledgergate) -> Path:
    """A migration that failed after its first statement."""
    path = ledgergate.write("one", "create table one (id int);\nselect nonsense;", "transaction:false")
    assert ledgergate("up").returncode == 1
    return path


def mend(path: Path) -> None:
    path.write_text("-- migrate:up transaction:false\ncreate table one (id int);\n")


async def test_completed_by_hand(ledgergate: Ledgergate, connection: Connection, broken: Path) -> None:
    """It counts as applied, with the checksum of the file as it was mended; NOTIFY says so; `up` goes on."""
    mend(broken)
    ledgergate.write("two", "alter table one add two int")
    heard: list[object] = []
    await connection.add_listener("ledgergate", lambda *arguments: heard.append(arguments[3]))
    done = ledgergate("resolve", ONE, "--applied")
    assert (done.returncode, done.stderr) == (0, "")
    assert "with the checksum of the file as it is now" in done.stdout
    await connection.execute("select 1")
    assert heard == [ONE]
    assert ledgergate("verify").returncode == 0
    assert ledgergate("up").returncode == 0
    assert ledgergate("status", "--check").returncode == 0
    assert "already" in ledgergate("resolve", ONE, "--applied").stdout


async def test_undone_by_hand(ledgergate: Ledgergate, connection: Connection, broken: Path) -> None:
    """Its row is gone, and `up` runs it anew."""
    await connection.execute("drop table one")
    mend(broken)
    assert ledgergate("resolve", f"{ONE}.sql", "--rolled-back").returncode == 0
    assert await connection.fetchval("select count(*) from ledgergate_migrations") == 0
    assert "already" in ledgergate("resolve", ONE, "--rolled-back").stdout
    assert ledgergate("up").returncode == 0
    assert await connection.fetchval("select state from ledgergate_migrations") == "applied"


async def test_a_run_that_was_killed(ledgergate: Ledgergate, connection: Connection, broken: Path) -> None:
    """A row that says `running` is settled too, once its run is dead; without the file its checksum stays."""
    await connection.execute("update ledgergate_migrations set state = 'running', error = null, finished_at = null")
    recorded = await connection.fetchval("select checksum from ledgergate_migrations")
    broken.unlink()  # noqa: ASYNC240 - a test may block
    assert ledgergate("resolve", ONE, "--applied").returncode == 0
    row = await connection.fetchrow("select * from ledgergate_migrations")
    assert row is not None
    assert (row["state"], row["checksum"], row["error"]) == ("applied", recorded, None)
    assert row["finished_at"] is not None


@pytest.mark.usefixtures("broken")
async def test_not_while_its_run_is_alive(ledgergate: Ledgergate, connection: Connection) -> None:
    """Exit 4 while the lock is held, and the message says by whom; nothing is written."""
    await connection.execute("set application_name = 'ledgergate pod-9'")
    await connection.fetchval("select pg_advisory_lock($1)", advisory_lock.lock_key(NATIVE.relation()))
    done = ledgergate("resolve", ONE, "--rolled-back", "--lock-timeout", "0.2")
    assert done.returncode == 4
    assert "pod-9" in done.stderr
    assert await connection.fetchval("select state from ledgergate_migrations") == "failed"


@pytest.mark.usefixtures("broken")
def test_what_cannot_be_settled(ledgergate: Ledgergate) -> None:
    """Exit 2 for a revision that is not there, for one that is fine, and for no or two answers."""
    done = ledgergate("resolve", "20250101000009_x", "--applied")
    assert (done.returncode, f"dirty is {ONE}" in done.stderr) == (2, True)
    assert ledgergate("resolve", ONE).returncode == 2
    assert ledgergate("resolve", ONE, "--applied", "--rolled-back").returncode == 2
    assert ledgergate("resolve", ONE, "--applied").returncode == 0
    done = ledgergate("resolve", ONE, "--rolled-back")
    assert (done.returncode, f"{ONE} is applied; nothing in the ledger is dirty" in done.stderr) == (2, True)
