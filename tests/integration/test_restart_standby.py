"""A server that is a hot standby when a run comes, and becomes the primary."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg

from testbed.postgres_versions import since
from tests.integration.test_up import states

if TYPE_CHECKING:
    from testbed.postgres import Postgres
    from tests.integration.conftest import Ledgergate


def demote(server: Postgres) -> None:
    """Let the server come back as a hot standby that no primary feeds."""
    server.stop()
    (server.data / "standby.signal").touch()
    server.start()


@since(14, "pg_stat_database.sessions, by which this test sees that a session came and went")
async def test_a_standby_is_waited_out(ledgergate: Ledgergate, own_postgres: Postgres) -> None:
    """During a failover `up` waits until the server takes writes, and then applies what is pending."""
    ledgergate.write("one", "create table one (id int)")
    ledgergate.environment["DATABASE_URL"] = own_postgres.url()
    demote(own_postgres)
    run = ledgergate.start("up")
    connection = await asyncpg.connect(own_postgres.url())
    while run.poll() is None:  # until it has come and gone at least once
        if await connection.fetchval("select sessions > 2 from pg_stat_database where datname = current_database()"):
            break
        await connection.execute("select pg_stat_clear_snapshot()")
        await asyncio.sleep(0.05)
    assert run.poll() is None
    assert await connection.fetchval("select pg_promote()")
    _, errors = await asyncio.to_thread(run.communicate)
    assert (run.returncode, errors) == (0, "")
    assert await states(connection) == {"one": "applied"}
    await connection.close()


async def test_a_standby_that_stays_one_is_given_up(ledgergate: Ledgergate, own_postgres: Postgres) -> None:
    """Exit 4 after --connect-timeout, and the message says why; with nothing pending a standby is as good as any."""
    ledgergate.write("one", "create table one (id int)")
    ledgergate.environment["DATABASE_URL"] = own_postgres.url()
    assert ledgergate("up").returncode == 0
    demote(own_postgres)
    assert ledgergate("up").returncode == 0
    ledgergate.write("two", "select 1")
    done = await asyncio.to_thread(ledgergate, "up", "--connect-timeout", "1")
    assert done.returncode == 4
    assert "takes no writes: it is a standby, or read-only (tried for 1 s)" in done.stderr


def test_a_host_without_an_address_is_tried_again(ledgergate: Ledgergate) -> None:
    """A name that is not known yet, as of a Service that is just made, is no failure before --connect-timeout."""
    ledgergate.write("one", "select 1")
    done = ledgergate("up", "--connect-timeout", "1", DATABASE_URL="postgresql://u:s3cret@nowhere.invalid/x")
    assert done.returncode == 4
    assert "nowhere.invalid:5432/x cannot be reached" in done.stderr
    assert "(tried for 1 s)" in done.stderr
    assert "s3cret" not in done.stderr
