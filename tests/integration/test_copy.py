"""COPY with its rows in the file, as pg_dump writes it, is run; what only psql can run is refused."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_dry_run import find_program, psql

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

NASTY = [(1, "tab\tand\nline"), (2, "it's -- \\. $$ /*"), (3, None), (4, "\\N"), (5, "ü €")]
TABLE = "create table public.orders (id int primary key, note text)"


def pg_dump(url: str, *options: str) -> str:
    """What pg_dump writes about a database."""
    return subprocess.run([find_program("pg_dump"), url, *options], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("options", ["", "transaction:false"])
async def test_a_dump_is_loaded(ledgergate: Ledgergate, connection: Connection, database: str, options: str) -> None:
    """Every row arrives as it was, in one transaction or outside one; up, lint and --dry-run read the same file."""
    await connection.execute(TABLE)
    await connection.execute("create table public.others (id int)")
    await connection.executemany("insert into orders values ($1, $2)", NASTY)
    lines = pg_dump(database, "--no-owner").splitlines()
    # The last is a setting that servers before PostgreSQL 17 do not have; pg_dump is newer than the server may be.
    unknown = ("\\restrict", "\\unrestrict", "SET transaction_timeout")
    dump = "\n".join(each for each in lines if not each.startswith(unknown))
    await connection.execute("drop table orders; drop table others")
    ledgergate.write("dump", dump, options)
    ledgergate.write("more", 'copy public.orders (id, note) from stdin with (format csv);\n6,"a,b"\n\\.\nselect 1;')
    assert "syntax error" not in ledgergate("lint").stdout
    script = ledgergate("up", "--dry-run").stdout
    done = ledgergate("up")
    assert (done.returncode, done.stderr) == (0, "")
    rows = "select array_agg((id, note)::text order by id) from public.orders"
    expected = await connection.fetchval(rows)
    assert [tuple(row) for row in await connection.fetch("select * from public.orders order by id")] == [
        *NASTY,
        (6, "a,b"),
    ]
    await connection.execute("drop table orders; drop table others; drop table ledgergate_migrations")
    assert psql(database, script).returncode == 0
    assert await connection.fetchval(rows) == expected


async def test_a_row_that_fails(ledgergate: Ledgergate, connection: Connection) -> None:
    """Nothing of the file stays, and the line is that of COPY; outside a transaction, what preceded it stays."""
    up = f"{TABLE};\n\ncopy orders from stdin;\n1\ta\nx\tb\n\\.\n"
    path = ledgergate.write("20250101000000_a", up)
    done = ledgergate("up")
    assert done.returncode == 1
    assert f'{path.name}:4: invalid input syntax for type integer: "x"' in done.stderr
    assert await connection.fetchval("select to_regclass('orders') is null")
    ledgergate.write("20250101000000_a", up, "transaction:false")
    assert f"{path.name}:4: invalid input" in ledgergate("up").stderr
    assert await connection.fetchval("select count(*) from orders") == 0


@pytest.mark.parametrize("options", ["", "transaction:false"])
async def test_comments_within_copy(
    ledgergate: Ledgergate, connection: Connection, database: str, options: str
) -> None:
    """COPY with comments between its words takes its rows as psql does."""
    up = f"{TABLE};\ncopy /* ; */ orders from -- 'x'\n/* y */ stdin/* z */;\n1\tit's -- a\n\\.\nselect 1;"
    ledgergate.write("20250101000000_a", up, options)
    script = ledgergate("up", "--dry-run").stdout
    done = ledgergate("up")
    assert (done.returncode, done.stderr) == (0, "")
    assert await connection.fetchval("select note from orders") == "it's -- a"
    await connection.execute("drop table orders; drop table ledgergate_migrations")
    assert psql(database, script).returncode == 0
    assert await connection.fetchval("select note from orders") == "it's -- a"


async def test_rows_are_not_copied_twice(ledgergate: Ledgergate, connection: Connection) -> None:
    """A run that resumes continues after a COPY that was recorded with its rows."""
    ledgergate.write(
        "a",
        f"{TABLE};\ncopy orders from stdin;\n1\ta\n\\.\ninsert into missing values (1);",
        "transaction:false",
    )
    assert ledgergate("up").returncode == 1
    assert await connection.fetchval("select statements_done from ledgergate_migrations") == 2
    await connection.execute("create table missing (id int)")
    assert ledgergate("up").returncode == 0
    assert await connection.fetchval("select count(*) from orders") == 1


async def test_down_copies_too(ledgergate: Ledgergate, connection: Connection) -> None:
    """A down section restores rows."""
    await connection.execute(TABLE)
    ledgergate.write("a", "select 1;", down="copy orders from stdin;\n1\ta\n\\.\n")
    assert ledgergate("up").returncode == 0
    assert ledgergate("down").returncode == 0
    assert await connection.fetchval("select count(*) from orders") == 1


async def test_a_commit_behind_rows(ledgergate: Ledgergate) -> None:
    """Rows that PostgreSQL's grammar would reject do not hide a statement that ends the transaction."""
    ledgergate.write("a", f"{TABLE};\ncopy orders from stdin;\n1\tit's\n\\.\ncommit;")
    done = ledgergate("up")
    assert done.returncode == 1
    assert ":6: commit would end the transaction" in done.stderr


@pytest.mark.parametrize("options", ["", "transaction:false"])
@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("copy orders from stdin;", "expected the rows"),
        ("COPY public.orders (id)\nFROM STDIN WITH (FORMAT csv, HEADER);\n1", "expected the rows"),
        ("copy orders to stdout;", "COPY ... TO STDOUT"),
        ("\\restrict x", "\\restrict: pg_dump writes it"),
        ("\\connect other", "\\connect: psql runs this"),
        ("\\i other.sql", "put the text of that file here"),
        ("\\copy orders from 'a.csv'", "\\copy"),
        ("select 'drop table x' \\gexec", "\\gexec"),
    ],
)
async def test_what_needs_psql(
    ledgergate: Ledgergate, connection: Connection, options: str, statement: str, words: str
) -> None:
    """Exit 2 with file and line for every command, and neither this file nor one before it has run."""
    ledgergate.write("20250101000000_a", TABLE)
    ledgergate.write("20250101000001_b", f"select 1;\n{statement}", options)
    for command in (("up",), ("up", "--dry-run"), ("lint",)):
        done = ledgergate(*command)
        assert done.returncode == 2
        assert "20250101000001_b.sql:3: " in done.stdout + done.stderr
        assert words in done.stdout + done.stderr
    assert await connection.fetchval("select to_regclass('orders') is null")
    assert json.loads(ledgergate("up", "--log-format", "json").stderr)["event"] == "unusable"


@pytest.mark.parametrize(
    "call", ["execute('copy a from stdin')", "fetch('select 1; copy a from stdin')", "fetch('copy a to stdout')"]
)
def test_copy_in_python(ledgergate: Ledgergate, call: str) -> None:
    """A query that asyncpg would wait for without end is refused; its own methods for COPY work."""
    python = "async def up(connection):\n    await connection.execute('create table a (id int)')\n"
    ledgergate.write(
        "20250101000000_a.py", f"{python}    await connection.copy_records_to_table('a', records=[(1,)])\n"
    )
    assert ledgergate("up").returncode == 0
    path = ledgergate.write("20250101000001_b.py", f"async def up(connection):\n    await connection.{call}\n")
    done = ledgergate("up")
    assert done.returncode == 1
    assert f"{path.name}:2" in done.stderr
    assert "copy_to_table" in done.stderr or "multiple commands" in done.stderr
