"""What the server refuses is a failed migration with file and line; only an outage is exit 4; notices are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

LEDGER = "ledgergate_migrations"
OWN_WORDS = (LEDGER, "transaction_deferrable", "pg_notify", "ledgergate_entry", "set local role")
"""What only our own statements contain."""


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("create table a (\n  id int", 3),
        ("select 1 +\n\n\n", 2),
        ("comment on table a is 'open;\n", 2),
        ('select 1 as "open;\n', 2),
        ("select 1;\n/* open", 3),
        ("do $body$\nbegin\nend $$;", 2),
        ("select E'\\';\n", 2),
        ("create function f() returns int begin atomic\n select 1;", 3),
        ("select 1;\nselect (", 3),
    ],
)
@pytest.mark.parametrize("options", ["", "transaction:false"])
async def test_a_section_that_ends_too_early(
    ledgergate: Ledgergate, connection: Connection, sql: str, line: int, options: str
) -> None:
    """Exit 1 with file and line, nothing of our own SQL in the message, and nothing applied."""
    if "begin atomic" in sql and connection.get_server_version().major < 14:
        pytest.skip("BEGIN ATOMIC is known since PostgreSQL 14")
    path = ledgergate.directory / "20250101000000_a.sql"
    path.write_text(f"-- migrate:up {options}\n{sql}")
    done = ledgergate("up")
    assert done.returncode == 1
    assert f"20250101000000_a failed. migrations/{path.name}:{line}: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not [words for words in OWN_WORDS if words in done.stderr]
    assert not await connection.fetchval("select count(*) from pg_class where relname = 'a'")


@pytest.mark.parametrize(
    "sql",
    ["select 'it''s' -- it's\n", "select 1 /* 'a */", "select $a$ ' $a$, 'b'", "select 1;\n-- 'open", "select '\\'"],
)
def test_a_section_that_ends_well(ledgergate: Ledgergate, sql: str) -> None:
    """Quotes in comments, comments in quotes: it is applied."""
    (ledgergate.directory / "20250101000000_a.sql").write_text(f"-- migrate:up\n{sql}")
    assert ledgergate("up").returncode == 0


def test_backslashes_as_the_server_is_set(ledgergate: Ledgergate) -> None:
    """With standard_conforming_strings off, a section that seems to end in a string is applied nevertheless."""
    (ledgergate.directory / "20250101000000_a.sql").write_text("-- migrate:up\nselect 'it\\'s';")
    (ledgergate.directory / "20250101000000_b.sql").write_text("-- migrate:up\nselect 1;")
    done = ledgergate("up", PGOPTIONS="-c standard_conforming_strings=off")
    assert done.returncode == 0, done.stderr


DAMAGE = {
    "dropped": "drop table {ledger}",
    "renamed": "alter table {ledger} rename to elsewhere",
    "a trigger": "create function no() returns trigger language plpgsql as 'begin raise ''no entry''; end';"
    "create trigger no before insert or update or delete on {ledger} for each row execute function no()",
    "a check": "alter table {ledger} add check (batch < 0) not valid",
    "a column": "alter table {ledger} add column owner text; update {ledger} set owner = ''; "
    "alter table {ledger} alter column owner set not null",
}


@pytest.mark.parametrize(
    ("damage", "options"),
    [(damage, options) for damage in DAMAGE for options in ("", "transaction:false")][:-1],  # it concerns inserts only
)
async def test_a_row_that_cannot_be_written(
    ledgergate: Ledgergate, connection: Connection, damage: str, options: str
) -> None:
    """The ledger is named, and no line of the file; exit 1. The migration may be what damaged it."""
    ledgergate.write("20250101000000_a", "create table a (id int)")
    assert ledgergate("up").returncode == 0
    ledgergate.write("20250101000001_b", f"{DAMAGE[damage].format(ledger=LEDGER)};\ncreate table b (id int);", options)
    done = ledgergate("up")
    assert done.returncode == 1
    assert f"20250101000001_b failed. migrations/20250101000001_b.sql: {'its' if not options else ''}" in done.stderr
    assert f"row in the ledger public.{LEDGER} could not be written" in done.stderr
    assert "set local" not in done.stderr
    if not options:
        assert await connection.fetchval("select to_regclass('b') is null")


async def test_the_ledgers_sequence_is_behind(ledgergate: Ledgergate, connection: Connection) -> None:
    """The message has the command that restarts a sequence that is behind, as after logical replication."""
    ledgergate.write("a", "select 1")
    assert ledgergate("up").returncode == 0
    await connection.execute(f"select setval(pg_get_serial_sequence('{LEDGER}', 'id'), 1, false)")
    ledgergate.write("b", "select 1")
    done = ledgergate("up")
    assert done.returncode == 1
    assert f"`select setval(pg_get_serial_sequence('public.{LEDGER}', 'id'), max(id)) from" in done.stderr


def test_a_python_migrations_row(ledgergate: Ledgergate) -> None:
    """A Python migration that damages the ledger has the same message."""
    ledgergate.write("a.py", f"async def up(connection):\n    await connection.execute('drop table {LEDGER}')\n")
    done = ledgergate("up")
    assert done.returncode == 1
    assert f"row in the ledger public.{LEDGER} could not be written" in done.stderr


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("create table a (id int primary key);\ninsert into a values (1);\n\ninsert into a values (1);", None),
        ("\n\ninsert into kept values (1); -- the only one", 4),
        ("select 1;\nselect missing;", 3),
        ("select 1;\n\ndo $$ begin\n raise 'no; entry'; end $$;", None),
        ("do $$ begin\n raise 'no; entry'; end $$;", 2),
        ("create table d (id int unique deferrable initially deferred);\ninsert into d values (1), (1);", None),
    ],
)
async def test_the_line_of_an_error(ledgergate: Ledgergate, connection: Connection, sql: str, line: int | None) -> None:
    """Where the server reports no position, the line is that of the only statement; with several there is none."""
    await connection.execute("create table kept (id int primary key check (id <> 2)); insert into kept values (1)")
    path = ledgergate.write("20250101000000_a", sql)
    done = ledgergate("up")
    assert done.returncode == 1
    assert f"migrations/{path.name}{'' if line is None else f':{line}'}: " in done.stderr
    assert "ledger" not in done.stderr


@pytest.mark.parametrize("sql", ["select 1;\nselect (", "select 1 +"])
def test_a_statement_that_what_follows_it_breaks(ledgergate: Ledgergate, sql: str) -> None:
    """The message says that the statement is incomplete, and shows nothing of the SQL that the runner adds after it."""
    ledgergate.write("20250101000000_a", sql)
    done = ledgergate("up")
    assert done.returncode == 1
    assert "syntax error at the end of the section: the last statement is not complete" in done.stderr


def test_notices_are_shown(ledgergate: Ledgergate) -> None:
    """NOTICE and WARNING of the migration, up and down, transactional or not, in Python too; none of our own."""
    raising = "do $$ begin raise notice 'rows: %', 7; raise warning 'slow\nhere'; end $$;"
    python = f'async def up(connection):\n    await connection.execute("""{raising}""")\n'
    python += "async def down(connection):\n    pass\n"
    ledgergate.write("20250101000000_a", raising, down=raising)
    ledgergate.write("20250101000001_b", raising, "transaction:false", down=raising)
    ledgergate.write("20250101000002_c.py", python)
    done = ledgergate("up")
    assert (done.returncode, done.stderr) == (0, "")
    shown = [line for line in done.stdout.splitlines() if "NOTICE" in line or "WARNING" in line]
    assert shown == [
        f"{revision}: {text}"
        for revision in ("20250101000000_a", "20250101000001_b", "20250101000002_c")
        for text in ("NOTICE: rows: 7", "WARNING: slow here")
    ]
    done = ledgergate("down")
    assert [line for line in done.stdout.splitlines() if "NOTICE" in line] == [
        "20250101000001_b: NOTICE: rows: 7",
        "20250101000000_a: NOTICE: rows: 7",
    ]


def test_what_a_notice_adds(ledgergate: Ledgergate) -> None:
    """Its DETAIL and its HINT are shown with it."""
    ledgergate.write("20250101000000_a", "do $$ begin raise notice 'slow' using detail = 'big', hint = 'wait'; end $$;")
    done = ledgergate("up")
    assert "20250101000000_a: NOTICE: slow big wait" in done.stdout.splitlines()


def test_no_notice_is_about_our_rollback(ledgergate: Ledgergate) -> None:
    """The warning about a ROLLBACK outside a transaction, which the runner sends, is not shown."""
    ledgergate.write("20250101000000_a", "do $$ begin raise notice 'here'; end $$; select 1 / 0", "transaction:false")
    done = ledgergate("up")
    assert done.returncode == 1
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "NOTICE" in line or "WARNING" in line]
    assert lines == ["20250101000000_a: NOTICE: here"]


def test_many_notices(ledgergate: Ledgergate) -> None:
    """Twenty are shown, and the number of the rest; a failed migration shows them too, and a long one is cut."""
    ledgergate.write("20250101000000_a", "do $$ begin for i in 1..50 loop raise notice '%', i; end loop; end $$;")
    ledgergate.write("20250101000001_b", "do $$ begin raise notice '%', repeat('x', 9999); raise 'end'; end $$;")
    done = ledgergate("up")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[19:21] == ["20250101000000_a: NOTICE: 20", "20250101000000_a: and 30 more notices"]
    assert max(map(len, lines)) < 600
    assert "20250101000001_b: NOTICE: xxx" in done.stdout


@pytest.mark.parametrize("options", ["", "transaction:false"])
async def test_messages_in_another_encoding(ledgergate: Ledgergate, connection: Connection, options: str) -> None:
    """A notice that is not UTF-8 fails nothing; an error is shown as it was written."""
    raising = "set client_encoding = 'LATIN1';\ndo $$ begin raise {} 'größer'; end $$;"
    ledgergate.write("20250101000000_a", raising.format("notice"), options)
    ledgergate.write("20250101000001_b", raising.format("exception"), options)
    ledgergate.write("20250101000002_c", "create table ü (id int)")
    done = ledgergate("up")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "20250101000001_b failed." in done.stderr
    assert "größer" in done.stderr
    ledgergate.write("20250101000001_b", "select 1")
    assert (ledgergate("resolve", "20250101000001_b", "--rolled-back") if options else ledgergate("up")).returncode == 0
    assert ledgergate("up").returncode == 0
    assert await connection.fetchval("select count(*) from ledgergate_migrations where state = 'applied'") == 3
