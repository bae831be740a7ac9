"""`up --dry-run | psql` has the same result as `up`: objects, owners, rows and ledger, whatever the files hold."""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from testbed.postgres import create_database, drop_database
from tests.dry_run_files import FAIL, SAME
from tests.integration.conftest import Ledgergate
from tests.integration.test_copy import pg_dump
from tests.integration.test_dry_run import psql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

LEDGER = """
select revision, checksum, batch, state, applied_by, compatible_from, statements_total, statements_done,
    statement_begun, error, duration_ms is not null as has_duration, finished_at >= started_at as has_end
from ledgergate_migrations order by id
"""
OUTSIDE = "transaction:false"
_MIGRATION = re.compile(r"^---(.*)\n((?:(?!---).*\n)*)", re.MULTILINE)
REFUSED: dict[str, tuple[str, str]] = {
    "ends the transaction": ("create table b (); commit; create table c ()", ""),
    "rolls back": ("create table b (); rollback", ""),
    "is no SQL, outside a transaction": ("create table b (; select 1", OUTSIDE),
    "is open, outside a transaction": ("create table b (); select 'x", OUTSIDE),
}


class Pair:
    """One directory of migrations, and a database for each way of running it."""

    def __init__(self, home: Path, first: str, second: str, names: dict[str, str]) -> None:
        self.up = Ledgergate(home, first)
        self.script = Ledgergate(home / "second", second)
        self.names = names

    def write(self, migrations: Sequence[tuple[str, str]] | str) -> None:
        """Write the migrations, as bytes: no line end is changed."""
        if isinstance(migrations, str):
            migrations = [(sql, options) for options, sql in _MIGRATION.findall(migrations)]
        for number, (sql, options) in enumerate(migrations):
            for name, value in self.names.items():
                sql = sql.replace(name, value)  # noqa: PLW2901
            text = f"-- migrate:up {options}\n{sql}\n"
            (self.up.directory / f"{20250101000000 + number}_m.sql").write_bytes(text.encode())
        shutil.copytree(self.up.directory, self.script.directory, dirs_exist_ok=True)

    def run(self) -> tuple[int, int]:
        """Run both ways, and return whether each failed."""
        done = self.up("up")
        dry = self.script("up", "--dry-run")
        assert (dry.returncode, dry.stderr) == (0, "")
        run = psql(self.script.environment["DATABASE_URL"], dry.stdout)
        return done.returncode, run.returncode

    def dumps(self) -> tuple[list[str], list[str]]:
        """Return what pg_dump writes of each database: objects, owners, rights and rows, but the ledger's rows."""
        dumps = []
        for ledgergate in (self.up, self.script):
            text = pg_dump(ledgergate.environment["DATABASE_URL"], "--exclude-table-data=ledgergate_migrations*")
            lines = text.splitlines()
            dumps.append([line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))])
        return dumps[0], dumps[1]


@pytest.fixture
def pair(tmp_path: Path, database: str, postgres: str, template: str) -> Iterator[Pair]:
    """Two empty databases, and two roles."""
    second = create_database(postgres, template)
    suffix = secrets.token_hex(4)
    names = {"ROLE": f"role_{suffix}", "OWNER": f"owner_{suffix}"}
    (tmp_path / "second").mkdir()
    yield Pair(tmp_path, database, second, names)
    drop_database(second)


@pytest.fixture
async def connections(pair: Pair) -> AsyncIterator[tuple[Connection, Connection]]:
    """A connection to each database, with the roles in place."""
    import asyncpg  # noqa: PLC0415

    first = await asyncpg.connect(pair.up.environment["DATABASE_URL"])
    second = await asyncpg.connect(pair.script.environment["DATABASE_URL"])
    role, owner = pair.names.values()
    await first.execute(f"create role {role}; create role {owner}")
    for connection in (first, second):
        await connection.execute(f"create schema {owner} authorization {owner}")
    yield first, second
    for connection in (first, second):
        await connection.execute(f"drop owned by {role}, {owner} cascade")
    await first.execute(f"drop role {role}; drop role {owner}; drop role if exists gone_{role}")
    await first.close()
    await second.close()


async def ledger(connection: Connection) -> list[tuple[object, ...]]:
    """Return the rows, without times; none where the table is missing."""
    if not await connection.fetchval("select to_regclass('ledgergate_migrations') is not null"):
        return []
    return [tuple(row) for row in await connection.fetch(LEDGER)]


@pytest.mark.parametrize("case", SAME)
async def test_the_script_does_the_same(case: str, pair: Pair, connections: tuple[Connection, Connection]) -> None:
    """Objects, owners, rights, rows and the ledger."""
    if "begin atomic" in SAME[case] and connections[0].get_server_version().major < 14:
        pytest.skip("BEGIN ATOMIC is known since PostgreSQL 14")
    pair.write(SAME[case])
    assert pair.run() == (0, 0)
    first, second = pair.dumps()
    assert first == second
    rows = await ledger(connections[0])
    assert len(rows) == SAME[case].count("\n---")
    assert rows == await ledger(connections[1])


@pytest.mark.parametrize("seed", range(int(os.environ.get("LEDGERGATE_MIXTURES", "5"))))
async def test_mixtures_do_the_same(seed: int, pair: Pair, connections: tuple[Connection, Connection]) -> None:
    """Whatever precedes what; most mixtures fail somewhere, since names collide, and then both stop there."""
    known = [case for case in SAME if "begin atomic" not in SAME[case]]
    pair.write("".join(SAME[case].lstrip() for case in random.Random(seed).sample(known, 4)))  # noqa: S311 - to choose cases
    assert pair.run() in {(0, 0), (1, 3)}
    first, second = pair.dumps()
    assert first == second
    rows = [[row for row in await ledger(connection) if "applied" in row] for connection in connections]
    assert rows[0] == rows[1]
    assert rows[0]


@pytest.mark.parametrize("case", FAIL)
async def test_the_script_fails_where_up_does(
    case: str, pair: Pair, connections: tuple[Connection, Connection]
) -> None:
    """The migrations before it are there and recorded, those after it are not, and it leaves nothing."""
    pair.write(FAIL[case])
    assert pair.run() == (1, 3)
    first, second = pair.dumps()
    assert first == second
    assert await ledger(connections[0]) == await ledger(connections[1])


@pytest.mark.parametrize("case", REFUSED)
def test_what_up_would_refuse_makes_no_script(case: str, pair: Pair) -> None:
    """The reason is that of `up`, with file and line, before anything runs."""
    pair.write([("create table a ()", ""), REFUSED[case]])
    dry = pair.script("up", "--dry-run")
    assert (dry.returncode, dry.stdout) == (1, "")
    assert "20250101000001_m.sql:2: " in dry.stderr
    done = pair.up("up")
    assert done.returncode == 1
    assert dry.stderr.partition("001_m.sql:")[2] == done.stderr.partition("001_m.sql:")[2]


async def test_a_transaction_that_is_left_open_is_rolled_back(
    pair: Pair, connections: tuple[Connection, Connection]
) -> None:
    """The script stops there, and the row says `running`."""
    pair.write([("begin; create table a (id int)", OUTSIDE), ("create table b ()", "")])
    assert pair.run() == (1, 3)
    first, second = pair.dumps()
    assert first == second
    assert [row[:4][3] for row in await ledger(connections[1])] == ["running"]
    assert "cannot be resumed" in pair.script("up").stderr


async def test_a_script_stops_at_python(pair: Pair, connections: tuple[Connection, Connection]) -> None:
    """What follows a Python migration is not applied without it; the message says what to run."""
    pair.write([("create table a ()", "")])
    for ledgergate in (pair.up, pair.script):
        ledgergate.write("20250101000001_it's.py", "async def up(connection): ...\n")
        ledgergate.write("20250101000002_c", "create table c ()")
    run = psql(pair.script.environment["DATABASE_URL"], pair.script("up", "--dry-run").stdout)
    assert run.returncode == 3
    assert "run `ledgergate migrate up --to 20250101000001_it's`" in run.stderr
    assert [row[0] for row in await ledger(connections[1])] == ["20250101000000_m"]


async def test_an_encoding_of_the_locale_or_the_database(
    pair: Pair, connections: tuple[Connection, Connection], postgres: str
) -> None:
    """The script is in UTF-8 and says so."""
    del connections
    table = "create table a as select 'é' as x; comment on table a is 'ü'"
    pair.write([(table, ""), ("comment on table a is 'é'", OUTSIDE)])
    dry = pair.script("up", "--dry-run", PYTHONIOENCODING="latin-1", LC_ALL="C")
    assert dry.returncode == 0
    url = urlsplit(postgres)
    name = f"latin_{secrets.token_hex(4)}"
    server = url._replace(path="/postgres").geturl()
    assert psql(server, f"create database {name} template template0 encoding 'LATIN1' locale 'C'").returncode == 0
    latin = url._replace(path=f"/{name}").geturl()
    try:
        assert psql(latin, dry.stdout).returncode == 0
        shown = pg_dump(latin, "--encoding=UTF8")
        assert "COMMENT ON TABLE public.a IS 'é'" in shown
        assert "\né\n" in shown
    finally:
        drop_database(latin)


async def test_an_existing_ledger_needs_no_right_to_create(
    pair: Pair, connections: tuple[Connection, Connection]
) -> None:
    """The script makes or extends the table only where it is missing or of an older version, as `up` does."""
    made = "create table if not exists"
    pair.write([("create table a ()", "")])
    assert made in pair.script("up", "--dry-run").stdout
    assert pair.run() == (0, 0)
    pair.write([("create table a ()", ""), ("create table b ()", "")])
    assert made not in pair.script("up", "--dry-run").stdout
    for connection in connections:
        await connection.execute("alter table ledgergate_migrations drop column statements_total")
    assert pair.run() == (0, 0)
    first, second = pair.dumps()
    assert first == second
