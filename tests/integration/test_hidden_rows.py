"""A ledger whose rows may be hidden from the role that reads it is unreadable, and never an empty ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from migrations.core.snapshot import Fault
from migrations.dialects.catalogue import find_dialect
from migrations.dialects.dialect import LedgerUnreadable
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.postgres.errors import RowsHidden
from migrations.reader.reader import LedgerReader, LedgerSource
from tests.integration.test_exec import KNEX
from tests.integration.test_foreign_views import ADD, KNEX_LOCK
from tests.integration.test_watcher import faulty, holds, watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from migrations.postgres.session import Session
    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

LEDGER = "ledgergate_migrations"


@pytest.fixture
async def reader(database: str, connection: Connection) -> AsyncIterator[str]:
    """The address of a role that is neither superuser nor owner of anything."""
    parts = urlsplit(database)
    role = f"reader_{parts.path[1:]}"
    await connection.execute(f"""create role "{role}" login password 'r'""")
    yield parts._replace(netloc=f"{role}:r@{parts.hostname}:{parts.port}").geturl()
    await connection.execute(f'drop owned by "{role}" cascade; drop role "{role}"')


@pytest.fixture
async def session(reader: str) -> AsyncIterator[Session]:
    """A session of that role."""
    session = await connect(Address.from_url(reader), timeout=5, application_name="test")
    yield session
    await session.close()


def knex(url: str, schema: str | None = None) -> LedgerSource:
    return LedgerSource(Address.from_url(url), find_dialect("knex"), schema)


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ("", "no policy for this role"),
        ("create policy newest on ledgergate_migrations for select using (id > 1)", "policy newest"),
        ("create policy everything on ledgergate_migrations using (true)", "policy everything"),
        ("create policy writes on ledgergate_migrations for insert with check (true)", "no policy for this role"),
    ],
)
async def test_every_command_names_what_hides_the_rows(
    ledgergate: Ledgergate, connection: Connection, reader: str, policy: str, named: str
) -> None:
    """Table, policies, role and remedy; exit 4. No policy is trusted: whether it shows every row cannot be seen."""
    ledgergate.write("a", "select 1")
    assert ledgergate("up").returncode == 0
    role = urlsplit(reader).username
    await connection.execute(f'alter table {LEDGER} enable row level security; grant select on {LEDGER} to "{role}"')
    await connection.execute(f"select; {policy}")
    for command in (("status",), ("verify",), ("wait", "--timeout", "0"), ("up",), ("up", "--dry-run"), ("down",)):
        done = ledgergate(*command, DATABASE_URL=reader)
        assert done.returncode == 4, command
        assert f"row-level security of public.{LEDGER} ({named}) hides rows of the ledger from the role {role}" in (
            done.stderr
        )
        assert f'`alter role "{role}" bypassrls`' in done.stderr
    await connection.execute(f'alter role "{role}" bypassrls')
    assert ledgergate("verify", DATABASE_URL=reader).stdout == "files and ledger agree\n"


async def test_an_owner_is_advised_to_disable_force(
    ledgergate: Ledgergate, connection: Connection, reader: str
) -> None:
    """An owner is subject to policies with FORCE ROW LEVEL SECURITY only, so the remedy is NO FORCE."""
    ledgergate.write("a", "select 1")
    role = urlsplit(reader).username
    await connection.execute(f'grant all on schema public to "{role}"')
    assert ledgergate("up", DATABASE_URL=reader).returncode == 0
    await connection.execute(f"alter table {LEDGER} enable row level security")
    assert ledgergate("verify", DATABASE_URL=reader).returncode == 0
    await connection.execute(f"alter table {LEDGER} force row level security")
    done = ledgergate("verify", DATABASE_URL=reader)
    assert done.returncode == 4
    assert f'`alter table "public"."{LEDGER}" no force row level security` as the owner' in done.stderr


async def test_a_watched_ledger_keeps_its_rows(ledgergate: Ledgergate, connection: Connection, reader: str) -> None:
    """Row-level security that comes later is a fault of its own; the last known ledger stays."""
    ledgergate.write("20250101000000_a", "select 1")
    assert ledgergate("up").returncode == 0
    await connection.execute(f'grant select on {LEDGER} to "{urlsplit(reader).username}"')
    async with watching(reader) as watch:
        await watch.until(holds("20250101000000_a"))
        await connection.execute(f"alter table {LEDGER} enable row level security; notify ledgergate")
        await watch.until(faulty(Fault.ROWS_HIDDEN))
        snapshot = watch.watcher.snapshot
        assert snapshot.ledger is not None
        assert snapshot.ledger.contains("20250101000000_a")
        assert snapshot.detail == f"row-level security of public.{LEDGER} (no policy for this role)"
        await connection.execute(f"alter table {LEDGER} disable row level security")
        await watch.until(holds("20250101000000_a"))


async def test_a_view_on_a_table_with_policies(connection: Connection, session: Session, reader: str) -> None:
    """The policies of a table that a view reads count for the owner of the view; the server finds them."""
    role = urlsplit(reader).username
    await connection.execute(f"create schema kept; {KNEX.replace('knex_migrations', 'kept.history')}")
    await connection.execute("create view knex_migrations as select * from kept.history")
    await connection.execute(f"""
        alter table kept.history enable row level security;
        grant usage on schema kept to "{role}"; grant select on kept.history to "{role}";
        alter view knex_migrations owner to "{role}";
    """)
    with pytest.raises(RowsHidden, match="give the role BYPASSRLS"):
        await LedgerReader(session, knex(reader)).read()


async def test_a_row_lock_with_policies(ledgergate: Ledgergate, connection: Connection, reader: str) -> None:
    """A lock row that is hidden must not make the lock look free."""
    role = urlsplit(reader).username
    await connection.execute(f"{KNEX}; {KNEX_LOCK}")
    await connection.execute("insert into knex_migrations_lock (is_locked) values (1)")
    await connection.execute("alter table knex_migrations_lock enable row level security")
    await connection.execute(f'grant select on knex_migrations, knex_migrations_lock to "{role}"')
    done = ledgergate("status", "--dialect", "knex", DATABASE_URL=reader)
    assert done.returncode == 4
    assert "knex_migrations_lock" in done.stderr


PARTIAL = {
    "a view": "create view knex_migrations as select * from kept.history where id > 1",
    "a materialized view": "create materialized view knex_migrations as select * from kept.history with no data;"
    "refresh materialized view knex_migrations",
    "a partition": "create table knex_migrations partition of kept.parts for values in (2)",
    "an inheritance child": "create table knex_migrations () inherits (kept.history)",
    "a foreign table": "create foreign data wrapper none; create server none foreign data wrapper none;"
    "create foreign table knex_migrations (id int, name text, batch int, migration_time timestamptz) server none",
}


@pytest.mark.parametrize("kind", PARTIAL)
async def test_no_row_in_a_part(connection: Connection, database: str, kind: str) -> None:
    """An object that may be only a part of the ledger is no empty ledger; with a row it is read."""
    await connection.execute(f"""
        create schema kept; {KNEX.replace("knex_migrations", "kept.history")};
        create table kept.parts (id int, name text, batch int, migration_time timestamptz) partition by list (id);
        {PARTIAL[kind]}
    """)
    session = await connect(Address.from_url(database), timeout=5, application_name="test")
    try:
        expected = "no handler" if kind == "a foreign table" else f"public.knex_migrations is {kind} and shows no row"
        with pytest.raises(Exception, match=expected):
            await LedgerReader(session, knex(database)).read()
        if kind == "an inheritance child":
            await connection.execute(ADD, "a.js")
            assert (await LedgerReader(session, knex(database)).read()).head == "a"
    finally:
        await session.close()


async def test_a_table_outside_the_search_path(connection: Connection, session: Session, reader: str) -> None:
    """A ledger outside the search path is not an empty ledger; in a schema that is named, a missing table is."""
    await connection.execute(f"create schema app; {KNEX.replace('knex_migrations', 'app.knex_migrations')}")
    with pytest.raises(LedgerUnreadable, match=r"expected knex_migrations in a schema .* found it only in app"):
        await LedgerReader(session, knex(reader)).read()
    assert (await LedgerReader(session, knex(reader, "public")).read()).head is None


async def test_a_table_that_the_ledger_needs(connection: Connection, session: Session, reader: str) -> None:
    """A view that fails because another table is gone is an error, not a missing ledger."""
    await connection.execute(KNEX.replace("knex_migrations", "history"))
    await connection.execute("""
        create function history_rows() returns setof history language plpgsql security definer
        as 'begin return query select * from history; end';
        create view knex_migrations as select id, name, batch, migration_time from history_rows();
        alter function history_rows() set search_path = gone;
    """)
    await connection.execute(f'grant select on knex_migrations to "{urlsplit(reader).username}"')
    with pytest.raises(Exception, match='relation "history" does not exist'):
        await LedgerReader(session, knex(reader)).read()


def test_a_missing_table_is_named(ledgergate: Ledgergate) -> None:
    """`verify`, `status` and `wait` distinguish a table that does not exist from one without rows."""
    ledgergate.write("20250101000000_a", "select 1")
    missing = f"the table public.{LEDGER} does not exist"
    assert ledgergate("verify").stdout == f"files and ledger agree; {missing} yet; 1 pending\n"
    assert f"({missing})" in ledgergate("wait", "--timeout", "0").stderr
    assert "not there yet" in ledgergate("status").stdout
