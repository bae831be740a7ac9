"""More instances of the kinds of field reports that have fewer than three instances in other files."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_exec import KNEX
from tests.integration.test_foreign_views import ADD

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

START = """
import sys
from importlib.metadata import entry_points
from migrations.runner import locked_session
locked_session.SESSION_PARAMETERS.update({!r})
sys.argv = ["ledgergate", "migrate", "up"]
next(e for e in entry_points(group="console_scripts") if e.name == "ledgergate").load()()
"""
REFUSED = {
    "value out of range": {"tcp_keepalives_count": "-1"},
    "value of another type": {"default_transaction_deferrable": "perhaps"},
    "needs a restart": {"max_connections": "5"},
    "several": {"tcp_keepalives_idle": "minus", "idle_in_transaction_session_timeout": "-5", "work_mem": "none"},
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_a_setting_that_the_server_refuses(ledgergate: Ledgergate, refused: dict[str, str]) -> None:
    """The run goes on without it, and says so once for each."""
    ledgergate.write("one", "create table a ()")
    ledgergate.write("two", "create table b ()", "transaction:false")
    done = subprocess.run(
        [sys.executable, "-c", START.format(refused)],
        cwd=ledgergate.home,
        env=ledgergate.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "done: the ledger is at 20250101000001_two" in done.stdout
    for name in refused:
        assert (done.stdout + done.stderr).count(f"the server refuses the setting {name}") == 1


@pytest.mark.parametrize("form", ["NFD", "NFC"])
@pytest.mark.parametrize("name", ["a\u00f1adir", "\ud55c\uad6d\uc5b4", "\u1ec7", "\u212bngstr\u00f6m", "e\u0323\u0302"])
async def test_a_name_in_another_form_is_applied_once(
    ledgergate: Ledgergate, connection: Connection, name: str, form: str
) -> None:
    """Written on one system, checked out on another: Hangul, two marks on a letter, a sign that is another letter."""
    forms = [f"20250101000000_{unicodedata.normalize(each, name)}" for each in ("NFC", "NFD")]
    first, second = forms if form == "NFC" else forms[::-1]
    path = ledgergate.write(first, "create table a ()", down="drop table a;")
    assert ledgergate("up").returncode == 0
    path.rename(path.with_name(f"{second}.sql"))
    done = ledgergate("up")
    assert (done.returncode, "nothing to do" in done.stdout) == (0, True)
    assert [row["revision"] for row in await connection.fetch("select revision from ledgergate_migrations")] == forms[
        :1
    ]
    assert ledgergate("verify").stdout == "files and ledger agree\n"


ENDS = {
    "LF to CRLF": (b"\n", b"\r\n"),
    "CRLF to LF": (b"\r\n", b"\n"),
    "in a dollar quote": (b"\n", b"\r\n"),
    "without an end of the last line": (b"\n", b"\r\n"),
}


@pytest.mark.parametrize("case", ENDS)
def test_line_ends_alone_are_no_edit(ledgergate: Ledgergate, case: str) -> None:
    """Line ends that Git's `autocrlf` rewrote are accepted and reported; an edit beside them is refused."""
    old, new = ENDS[case]
    sql = "do $$ begin\n  perform 1;\nend $$" if "dollar" in case else "select 1;\nselect 2"
    path = ledgergate.write("one", sql, down="select 1;")
    content = path.read_bytes().rstrip(b"\n" if "without" in case else b"").replace(b"\n", old)
    path.write_bytes(content)
    assert ledgergate("up").returncode == 0
    path.write_bytes(content.replace(old, new))
    done = ledgergate("verify")
    assert (done.returncode, done.stdout.count("line ends")) == (0, 1)
    path.write_bytes(content.replace(old, new).replace(b"select 1", b"select 3").replace(b"perform 1", b"perform 3"))
    assert ledgergate("verify").returncode == 3


@pytest.mark.parametrize("options", ["", "transaction:false"])
@pytest.mark.parametrize("encoding", ["WIN1252", "LATIN9", "EUC_JP", "UHC"])
def test_a_message_in_an_encoding_of_the_session(ledgergate: Ledgergate, encoding: str, options: str) -> None:
    """A notice fails nothing, whatever its bytes; an error names its migration, without a traceback."""
    text = {"EUC_JP": "日本語", "UHC": "한국어"}.get(encoding, "größer")
    raising = f"do $$ begin perform set_config('client_encoding', '{encoding}', false); raise {{}} '{text}'; end $$"
    ledgergate.write("20250101000000_a", raising.format("notice"), options)
    ledgergate.write("20250101000001_b", raising.format("exception"), options)
    done = ledgergate("up")
    assert done.returncode == 1
    assert "20250101000001_b failed." in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "applied 20250101000000_a" in done.stdout


@pytest.mark.parametrize(
    ("encoding", "text"), [("EUC_JP", "日本語"), ("UHC", "한국어"), ("WIN1251", "ошибка"), ("KOI8R", "ошибка")]
)
def test_a_message_in_an_encoding_that_the_server_has_reported(
    ledgergate: Ledgergate, encoding: str, text: str
) -> None:
    """It is read as it was written; within one message the server does not report what a failure takes back."""
    message = " || ".join(f"chr({ord(character)})" for character in text)
    sql = f"set client_encoding = '{encoding}';\ndo $$ begin raise exception '%', {message}; end $$"
    ledgergate.write("20250101000000_a", sql, "transaction:false")
    done = ledgergate("up")
    assert done.returncode == 1
    assert text in done.stderr


YOYO = """
    create table _yoyo_migration (migration_hash varchar primary key, migration_id varchar, applied_at_utc timestamp);
    create table yoyo_lock (locked int primary key, ctime timestamp, pid int not null);
"""
LIQUIBASE = """
    create table databasechangelog (id text, author text, filename text, dateexecuted timestamp, orderexecuted int,
        exectype text, md5sum text);
    create table databasechangeloglock (id int primary key, locked boolean not null, lockgranted timestamp,
        lockedby text);
"""
KNEX_LOCK = (
    "create table knex_migrations_lock (index int, is_locked int); insert into knex_migrations_lock values (1, 0)"
)
UNREADABLE = {
    "knex": (f"{KNEX}; {KNEX_LOCK}", "knex_migrations", "knex_migrations_lock"),
    "yoyo": (YOYO, "_yoyo_migration", "yoyo_lock"),
    "liquibase": (LIQUIBASE, "databasechangelog", "databasechangeloglock"),
}


@pytest.mark.parametrize("dialect", UNREADABLE)
async def test_status_without_a_right_on_the_row_lock(
    ledgergate: Ledgergate, connection: Connection, database: str, dialect: str
) -> None:
    """`SELECT` on the ledger is enough, for the text and for JSON; the lock is unknown then."""
    setup, table, lock = UNREADABLE[dialect]
    role = f"{database.rpartition('/')[2]}_reader"
    await connection.execute(f"{setup}; create role {role} login password 'x'; grant select on {table} to {role}")
    url = f"postgresql://{role}:x@{database.rpartition('@')[2]}"
    try:
        done = ledgergate("status", "--dialect", dialect, DATABASE_URL=url)
        assert (done.returncode, done.stderr) == (0, "")
        assert f'row lock: unknown, since the role may not read "public"."{lock}"' in done.stdout
        assert ledgergate("status", "--json", "--dialect", dialect, DATABASE_URL=url).returncode == 0
    finally:
        await connection.execute(f"drop owned by {role}; drop role {role}")


LEDGERS = {
    "knex": (
        f"{KNEX}; insert into knex_migrations (name, batch) values ('20250101000001_a.ts', 1)",  # noqa: S608 - its own
        "20250101000001_a.js",
    ),
    "node-pg-migrate": (
        """create table pgmigrations (id serial, name text, run_on timestamp);
        insert into pgmigrations (name, run_on) values ('1700000000001_a', now())""",
        "1700000000001_a.sql",
    ),
    "umzug": (
        """create table "SequelizeMeta" (name text); insert into "SequelizeMeta" values ('1-a.js')""",
        "1-a.js",
    ),
    "goose": (
        """create table goose_db_version
            (id serial, version_id bigint, is_applied boolean, tstamp timestamp default now());
        insert into goose_db_version (version_id, is_applied) values (0, true), (1, true)""",
        "00001_a.sql",
    ),
    "dbmate": (
        "create table schema_migrations (version varchar primary key); insert into schema_migrations values ('1')",
        "1_a.sql",
    ),
    "golang-migrate": (
        """create table schema_migrations (version bigint, dirty boolean);
        insert into schema_migrations values (1, false)""",
        "1_a.up.sql",
    ),
    "typeorm": (
        """create table migrations (id serial, timestamp bigint, name varchar);
        insert into migrations (timestamp, name) values (1700000000001, 'A1700000000001')""",
        "1700000000001-A.ts",
    ),
}


@pytest.mark.parametrize("dialect", LEDGERS)
async def test_verify_of_a_tool(ledgergate: Ledgergate, connection: Connection, dialect: str) -> None:
    """The file that is applied is there, or is named as missing, exit 3."""
    setup, name = LEDGERS[dialect]
    await connection.execute(setup)
    (ledgergate.directory / name).touch()
    done = ledgergate("verify", "--dialect", dialect)
    assert (done.returncode, done.stdout, done.stderr) == (0, "files and ledger agree\n", "")
    newer = name.replace("1", "2", 1)
    (ledgergate.directory / name).rename(ledgergate.directory / newer)
    done = ledgergate("verify", "--dialect", dialect)
    assert done.returncode == 3
    assert "is applied, but has no file" in done.stderr


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("001_init.ts", "00000000000001_init"),
        ("0002-more.js", "00000000000002_more"),
        ("20240101_day.mjs", "00000020240101_day"),
        ("202401011200_minute.js", "00202401011200_minute"),
        ("20240101120000_second.cjs", "20240101120000_second"),
    ],
)
async def test_a_short_number_is_fourteen_digits_here(
    ledgergate: Ledgergate, connection: Connection, there: str, here: str
) -> None:
    """`baseline --from knex` takes it over under the name that a file has here, and says that name without one."""
    await connection.execute(KNEX)
    await connection.execute(ADD, there)
    ledgergate.write("29990101000000_later", "select 1")
    done = ledgergate("baseline", "--from", "knex")
    assert done.returncode == 2
    assert f"expected {'<14 digits>_<name>' if here[:14] == there[:14] else here}.sql or .py" in done.stderr
    ledgergate.write(here, "select 1/0")
    done = ledgergate("baseline", "--from", "knex")
    assert done.returncode == 0, done.stderr
    assert await connection.fetchval("select revision from ledgergate_migrations") == here
