"""`ledgergate migrate baseline`: records what was never run here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

ONE = "20250101000000_one"


@pytest.fixture
async def adopted(ledgergate: Ledgergate, connection: Connection) -> Ledgergate:
    """A database that has the effects of `one` by other means; `two` and `three` are new."""
    ledgergate.write("one", "create table one (id int)", down="drop table one;")
    ledgergate.write(
        "two", "alter table one add two int", f"contract compatible-from:{ONE}", down="alter table one drop two;"
    )
    ledgergate.write("three", "alter table one add three int", down="alter table one drop three;")
    await connection.execute("create table one (id int)")
    return ledgergate


async def test_what_is_recorded_is_not_run_and_the_rest_is(adopted: Ledgergate, connection: Connection) -> None:
    """`up` continues after the baseline; `down` undoes what `up` did, and never what was only recorded."""
    heard: list[object] = []
    await connection.add_listener("ledgergate", lambda *arguments: heard.append(arguments[3]))
    done = adopted("baseline", "--to", ONE)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"recorded {ONE}" in done.stdout
    row = await connection.fetchrow("select * from ledgergate_migrations")
    assert row is not None
    assert (row["revision"], row["batch"], row["state"], len(row["checksum"])) == (ONE, 0, "applied", 64)
    assert heard == [ONE]
    assert adopted("up").returncode == 0
    assert adopted("verify").returncode == 0
    assert adopted("down").stdout.count("undid 2025") == 2
    assert "nothing to undo" in adopted("down").stdout
    assert await connection.fetchval("select revision from ledgergate_migrations") == ONE


async def test_everything_in_one_go_and_again(adopted: Ledgergate, connection: Connection) -> None:
    """Without --to all files are recorded; a second run has nothing to do, so it fits a Job."""
    assert adopted("baseline").returncode == 0
    rows = await connection.fetch("select revision, compatible_from from ledgergate_migrations order by id")
    assert [row["revision"].partition("_")[2] for row in rows] == ["one", "two", "three"]
    assert rows[1]["compatible_from"] == ONE
    again = adopted("baseline")
    assert (again.returncode, "nothing to do" in again.stdout) == (0, True)
    assert "nothing to do" in adopted("up").stdout


async def test_a_ledger_in_use_is_not_filled_by_accident(adopted: Ledgergate, connection: Connection) -> None:
    """Exit 2 without --to, since what is pending would be taken for applied; what was named is recorded."""
    assert adopted("baseline", "--to", ONE).returncode == 0
    done = adopted("baseline")
    assert done.returncode == 2
    assert f"its head is {ONE}" in done.stderr
    assert await connection.fetchval("select count(*) from ledgergate_migrations") == 1
    assert adopted("baseline", "--to", "20250101000001_two").returncode == 0
    assert await connection.fetchval("select count(*) from ledgergate_migrations") == 2


def test_what_cannot_be_recorded(adopted: Ledgergate) -> None:
    """Exit 2 for an unknown revision, for an edited file, and for a ledger that cannot be taken over."""
    assert adopted("baseline", "--to", "20250101000009_x").returncode == 2
    done = adopted("baseline", "--from", "nonsense")
    assert done.returncode == 2
    assert "'nonsense'" in done.stderr
    assert adopted("baseline", "--to", ONE).returncode == 0
    (adopted.directory / f"{ONE}.sql").write_text("-- migrate:up\nselect 2;")
    assert "was changed" in adopted("baseline", "--to", "20250101000001_two").stderr
