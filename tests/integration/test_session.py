"""Sessions and the advisory lock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from migrations.postgres import advisory_lock
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.postgres.errors import (
    ColumnMissing,
    ConnectionLost,
    ServerReadOnly,
    StatementFailed,
    TableMissing,
    TimedOut,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from migrations.postgres.session import Session


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    """A session with the test's database."""
    session = await connect(Address.from_url(database), timeout=5, application_name="first")
    yield session
    await session.close()


@pytest.fixture
async def other(database: str) -> AsyncIterator[Session]:
    """A second session with the same database."""
    session = await connect(Address.from_url(database), timeout=5, application_name="second")
    yield session
    await session.close()


async def test_reading_can_neither_write_nor_wait(session: Session, other: Session) -> None:
    """The block is read-only, with a second for each statement; after it the session is as before."""
    await session.execute("create table t (id int)")
    with pytest.raises(ServerReadOnly):
        async with session.read_only():
            await session.execute("insert into t values (1)")
    with pytest.raises(TimedOut):
        async with session.read_only():
            await session.execute("select pg_sleep(5)")
    async with other.transaction():
        await other.execute("lock table t in access exclusive mode")
        with pytest.raises(TimedOut):
            async with session.read_only():
                await session.fetch("select * from t")
    for setting in ("statement_timeout", "lock_timeout", "default_transaction_read_only"):
        assert await session.fetch_value("select current_setting($1)", setting) in {"0", "off"}
    await session.execute("insert into t values (1)")


async def test_a_reading_is_one_view(session: Session, other: Session) -> None:
    """Two queries of one block see one snapshot, whatever other sessions commit in between."""
    await other.execute("create table t (id int)")
    async with session.read_only():
        assert await session.fetch_value("select count(*) from t") == 0
        await other.execute("insert into t values (1)")
        assert await session.fetch_value("select count(*) from t") == 0


async def test_a_transaction_is_all_or_nothing(session: Session) -> None:
    """A block that raises is rolled back, and the session remains usable."""
    with pytest.raises(KeyError):  # noqa: PT012 - the block is what raises
        async with session.transaction():
            await session.execute("create table t (id int)")
            raise KeyError
    assert not await session.table_exists('"t"')
    async with session.transaction():
        await session.execute("create table t (id int)")
    assert await session.table_exists('"t"')


@pytest.mark.parametrize(
    ("sql", "kind", "position"),
    [
        ("select * from nosuch", TableMissing, 15),
        ("select nosuch from pg_class", ColumnMissing, 8),
        ("selec", StatementFailed, 1),
        ("select 1/0", StatementFailed, None),
    ],
)
async def test_what_the_server_refuses_has_a_kind_and_a_place(
    session: Session, sql: str, kind: type[StatementFailed], position: int | None
) -> None:
    """An error of the driver becomes one of our errors, with its SQLSTATE and position."""
    with pytest.raises(kind) as refused:
        await session.execute(sql)
    assert type(refused.value) is kind
    assert refused.value.position == position
    assert len(refused.value.sqlstate) == 5


async def test_a_killed_session_is_a_lost_connection(session: Session, other: Session) -> None:
    """It raises ConnectionLost at the next use and at every later one; closing it is not an error."""
    pid = await session.fetch_value("select pg_backend_pid()")
    assert await other.fetch_value("select pg_terminate_backend($1)", pid)
    while await other.fetch_value("select exists (select from pg_stat_activity where pid = $1)", pid):  # noqa: ASYNC110 - not our event
        await asyncio.sleep(0.01)
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            await session.execute("select 1")


async def test_settings_that_the_server_does_not_know_are_left_out(session: Session) -> None:
    """The parameters that the server knows are set all the same."""
    await session.configure({"no_such_setting": "1", "tcp_keepalives_idle": "10", "work_mem": "5MB"})
    assert await session.fetch_value("show work_mem") == "5MB"


@pytest.mark.parametrize("left", ["", "set work_mem = '6MB'", "set work_mem = '5MB'"])
async def test_a_reset_restores_every_setting(session: Session, left: str) -> None:
    """All settings of `configure` are restored, whatever an earlier client of a pooler left, and defaults too."""
    await session.execute(left or "select 1")
    default = await session.fetch_value("show statement_timeout")
    await session.configure({"work_mem": "5120kB", "statement_timeout": default, "lock_timeout": "3s"})
    await session.execute("set work_mem = '7MB'; set statement_timeout = '9s'; set lock_timeout = '9s'")
    await session.reset()
    names = ("work_mem", "statement_timeout", "lock_timeout")
    assert [await session.fetch_value(f"show {name}") for name in names] == ["5MB", default, "3s"]


async def test_a_reset_sends_only_settings_that_differ(session: Session) -> None:
    """A reset sends only settings that differ from the default: over hundreds of small migrations each costs time."""
    await session.configure({"statement_timeout": "0", "lock_timeout": "3s"})
    reset = session.reset_statements(lock_is_held=False)
    assert ("set lock_timeout" in reset, "set statement_timeout" in reset) == (True, False)


async def test_reloading_the_configuration_does_not_change_our_settings(
    session: Session, other: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RESET ALL brings the reloaded value, and `refresh_parameters` restores ours for the next migration."""
    monkeypatch.setattr("migrations.postgres.session._PARAMETERS_LIFETIME", 0.0)
    show = "show idle_in_transaction_session_timeout"
    await session.configure({"idle_in_transaction_session_timeout": "0"})
    try:
        await other.execute("alter system set idle_in_transaction_session_timeout = '1h'")
        async with asyncio.timeout(20):
            while await session.fetch_value(show) != "1h":
                await other.execute("select pg_reload_conf()")
                await session.reset()
    finally:
        await other.execute("alter system reset idle_in_transaction_session_timeout")
        await other.execute("select pg_reload_conf()")
    await session.execute(session.refresh_parameters())
    assert await session.fetch_value(show) == "0"


@pytest.mark.parametrize(
    "number", [advisory_lock.lock_key('"public"."ledgergate_migrations"'), 0, 1, -1, 2**63 - 1, -(2**63)]
)
async def test_one_session_holds_the_lock_and_others_see_its_holder(
    session: Session, other: Session, number: int
) -> None:
    """A second session does not get the lock and sees the holder; after the block the lock is free."""
    async with advisory_lock.try_lock(session, number) as held:
        assert held
        async with advisory_lock.try_lock(other, number) as also:
            assert not also
        holder = await advisory_lock.find_holder(other, number)
        assert holder is not None
        assert (holder.pid, holder.application) == (await session.fetch_value("select pg_backend_pid()"), "first")
        assert str(holder).startswith("first (backend ")
        assert await advisory_lock.find_holder(other, number ^ 1) is None
    assert await advisory_lock.find_holder(session, number) is None
    async with advisory_lock.try_lock(other, number) as held:
        assert held
