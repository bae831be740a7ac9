"""Every migration begins in a session like new, and what a session alone has is not taken for granted by a resume."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

LEFT = {
    "temporary table": ("create temp table t as select 1 as a", "alter table t add column b int"),
    "temporary view": ("create temp view t as select 1 as a", "alter table t add column b int"),
    "temporary function": (
        "create function pg_temp.f() returns int language sql as 'select 1'",
        "do $$ begin if to_regprocedure('pg_temp.f()') is not null then raise 'left'; end if; end $$",
    ),
    "prepared statement": ("prepare p as select 1", "prepare p as select 2"),
    "cursor": (
        "declare c cursor with hold for select 1",
        "do $$ begin if exists (select from pg_cursors where name = 'c') then raise 'left'; end if; end $$",
    ),
    "listener": (
        "listen news",
        "do $$ begin if exists (select from pg_listening_channels()) then raise 'left'; end if; end $$",
    ),
    "sequence": (
        "select nextval('s')",
        "do $$ begin perform lastval(); raise 'left'; exception when sqlstate '55000' then null; end $$",
    ),
    "advisory lock": (
        "select pg_advisory_lock(5), pg_advisory_lock(5), pg_advisory_lock_shared(6), pg_advisory_lock(1, 2)",
        """do $$ begin if (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
) > 2 then raise 'left'; end if; end $$""",
    ),
    "setting of a function": (
        "do $$ begin execute 's' || 'et search_path = nowhere'; end $$",
        "do $$ begin if current_setting('search_path') = 'nowhere' then raise 'left'; end if; end $$",
    ),
    "role": (
        "do $$ begin execute 's' || 'et role pg_monitor'; end $$",
        "do $$ begin if current_user = 'pg_monitor' then raise 'left'; end if; end $$",
    ),
    "session authorization": (
        "set session authorization pg_monitor",
        "do $$ begin if session_user = 'pg_monitor' then raise 'left'; end if; end $$",
    ),
}
PYTHON = "async def up(connection):\n    await connection.execute({!r})\n\nasync def down(connection):\n    pass\n"


@pytest.mark.parametrize("options", ["", "transaction:false"])
@pytest.mark.parametrize("what", LEFT)
async def test_nothing_of_a_session_is_left_for_the_next_migration(
    ledgergate: Ledgergate, connection: asyncpg.Connection[asyncpg.Record], what: str, options: str
) -> None:
    """The second migration sees the database as it would in a run of its own."""
    first, second = LEFT[what]
    await connection.execute("create table t (id int); create sequence s")
    ledgergate.write("first", first, options)
    ledgergate.write("second", second)
    done = ledgergate("up")
    assert done.returncode == 0, done.stderr
    assert await connection.fetchval("select count(*) from ledgergate_migrations where state = 'applied'") == 2


@pytest.mark.parametrize("what", LEFT)
async def test_nothing_of_a_python_migration_is_left(
    ledgergate: Ledgergate, connection: asyncpg.Connection[asyncpg.Record], what: str
) -> None:
    """A migration after one in Python sees the database as it would in a run of its own, too."""
    first, second = LEFT[what]
    await connection.execute("create table t (id int); create sequence s")
    ledgergate.write("first.py", PYTHON.format(first))
    ledgergate.write("second.py", PYTHON.format(second))
    done = ledgergate("up")
    assert done.returncode == 0, done.stderr


async def test_an_attempt_begins_in_a_session_like_new(ledgergate: Ledgergate) -> None:
    """PREPARE outlives a rollback: the second attempt does not fail at what the first has prepared."""
    ledgergate.write(
        "one",
        "prepare p as select 1; do $$ begin raise exception using errcode = '55P03'; end $$",
    )
    done = ledgergate("up", "--ddl-retry-timeout", "2")
    assert done.returncode == 1
    assert "tried" in done.stderr
    assert "already exists" not in done.stderr


def test_a_setting_that_the_server_refuses_is_left_out(ledgergate: Ledgergate) -> None:
    """The run goes on without it, keeps the other settings, and says so once."""
    refused = {"tcp_keepalives_interval": "-1", "tcp_keepalives_idle": "minus", "search_path": "app"}
    code = f"""
import sys
from importlib.metadata import entry_points
from migrations.runner import locked_session
locked_session.SESSION_PARAMETERS.update({refused!r})
sys.argv = ["ledgergate", "migrate", "up"]
next(e for e in entry_points(group="console_scripts") if e.name == "ledgergate").load()()
"""
    ledgergate.write(
        "one",
        "do $$ begin if current_setting('search_path') <> 'app' or current_setting('lock_timeout') <> '5s' "
        "then raise 'missing'; end if; end $$",
    )
    ledgergate.write("two", "create schema app; create table app.t ()", "lock-timeout:1s")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ledgergate.home,
        env=ledgergate.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in ("tcp_keepalives_interval", "tcp_keepalives_idle"):
        assert (done.stdout + done.stderr).count(f"the server refuses the setting {name}") == 1


LOST = {
    "table": ("create temp table users as select * from public.users where id > 100", "delete from users"),
    "explicit schema": ("create table pg_temp.users (id int)", "delete from users"),
    "select into": ("select * into temp users from public.users", "truncate users"),
    "view": ("create temp view users as select * from public.users where id > 100", "delete from users"),
    "block": ("do $$ begin create temp table users (id int); end $$", "delete from users"),
    "prepared statement": ("prepare clean as delete from users where id > 100", "execute clean"),
    "advisory lock": ("select pg_advisory_lock(7)", "delete from users"),
    "setting from data": ("select set_config('app.last', max(id)::text, false) from users", "delete from users"),
    "sequence": ("insert into numbered default values", "delete from users where id <> currval('numbered_id_seq')"),
    "cursor": ("declare c cursor with hold for select 1", "fetch c"),
    "listener": ("listen news", "select 1"),
}
BREAKS = "create unique index concurrently users_email on public.users (email)"


@pytest.mark.parametrize("what", LOST)
async def test_a_resume_does_not_go_on_without_what_the_session_had(
    ledgergate: Ledgergate, connection: asyncpg.Connection[asyncpg.Record], what: str
) -> None:
    """The remaining statements are not run in a new session; the message names the line and what to do."""
    await connection.execute(
        "create table users (id bigint, email text); insert into users values (1, 'a'), (2, 'a');"
        "create table numbered (id serial)"
    )
    before, after = LOST[what]
    ledgergate.write("one", f"{before};\n{BREAKS};\n{after};", "transaction:false")
    first = ledgergate("up")
    assert first.returncode == 1
    assert "up continues with it" not in first.stderr
    await connection.execute("update users set email = 'b' where id = 2")
    second = ledgergate("up")
    assert second.returncode == 1
    assert "It cannot be resumed" in second.stderr
    assert "_one.sql:" in second.stderr
    assert "resolve 20250101000000_one --applied" in second.stderr
    assert await connection.fetchval("select count(*) from users") == 2


async def test_a_resume_after_a_statement_that_was_completed_unrecorded(
    ledgergate: Ledgergate, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """The same where the run was killed between an index and its record: its effect shows that it was completed."""
    await connection.execute("create table users (id bigint, email text); insert into users values (1, 'a'), (2, 'a')")
    ledgergate.write("one", f"{LOST['table'][0]};\n{BREAKS};\n{LOST['table'][1]};", "transaction:false")
    assert ledgergate("up").returncode == 1
    await connection.execute("update users set email = 'b' where id = 2; drop index users_email")
    await connection.execute(BREAKS)
    await connection.execute("update ledgergate_migrations set state = 'running', statement_begun = 2")
    second = ledgergate("up")
    assert second.returncode == 1
    assert "It cannot be resumed" in second.stderr
    assert "what follows may need the" in second.stderr
    assert await connection.fetchval("select count(*) from users") == 2


@pytest.mark.parametrize(
    "before",
    [
        "create temp table x (id int); drop table x",
        "prepare p as select 1; deallocate p",
        "set search_path = public; select pg_catalog.set_config('app.x', 'y', false)",
        "create temp table x (id int); discard all",
        "begin; create temp table x (id int) on commit drop; commit",
    ],
)
async def test_a_resume_goes_on_where_the_session_has_nothing(
    ledgergate: Ledgergate, connection: asyncpg.Connection[asyncpg.Record], before: str
) -> None:
    """Objects that are dropped again, and settings that can be set again, do not stop a resume."""
    await connection.execute("create table users (id bigint, email text); insert into users values (1, 'a'), (2, 'a')")
    ledgergate.write("one", f"{before};\n{BREAKS};\ndelete from users;", "transaction:false")
    first = ledgergate("up")
    assert first.returncode == 1
    assert "up continues with it" in first.stderr
    await connection.execute("update users set email = 'b' where id = 2")
    second = ledgergate("up")
    assert second.returncode == 0, second.stderr
    assert await connection.fetchval("select count(*) from users") == 0
