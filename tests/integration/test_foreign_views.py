"""`status` and `wait` for the ledgers of other tools."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from migrations.postgres import advisory_lock
from tests.integration.test_exec import KNEX
from tests.integration.test_wait import line, waiting

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

KNEX_LOCK = "create table knex_migrations_lock (index serial primary key, is_locked int)"
ADD = "insert into knex_migrations (name, batch, migration_time) values ($1, 1, '2025-01-26 12:00:00+00')"


@pytest.fixture
async def shop(ledgergate: Ledgergate, connection: Connection) -> Ledgergate:
    """A Knex project of three migrations, of which the ledger holds `one` and one that has no file."""
    for name in ("20250101000001_one.js", "20250101000002_two.ts", "20250101000003_three.js"):
        (ledgergate.directory / name).touch()
    await connection.execute(KNEX)
    for name in ("20250101000000_gone.js", "20250101000001_one.js"):
        await connection.execute(ADD, name)
    return ledgergate


@pytest.mark.parametrize("dialect", ["knex", "auto"])
async def test_status_compares_the_directory_with_the_ledger(
    shop: Ledgergate, connection: Connection, dialect: str
) -> None:
    """As text and as JSON, with the holder of the lock and what is left over; whatever the file extensions."""
    await connection.execute(KNEX_LOCK)
    await connection.execute("insert into knex_migrations_lock (is_locked) values (1)")
    await connection.execute("set application_name = 'ledgergate pod-9'")
    await connection.fetchval("select pg_advisory_lock($1)", advisory_lock.lock_key('"public"."knex_migrations"'))
    done = shop("status", "--dialect", dialect)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:6] == [
        "20250101000000_gone   missing  2025-01-26 12:00:00+0000",
        "20250101000001_one    applied  2025-01-26 12:00:00+0000",
        "20250101000002_two    pending",
        "20250101000003_three  pending",
        "ledger: knex, public.knex_migrations",
        "head: 20250101000001_one; 1 applied, 2 pending, 1 missing",
    ]
    assert "expected: 20250101000003_three+3." in done.stdout
    assert "lock: held by pod-9 (backend " in done.stdout
    assert "row lock: taken" in done.stdout
    shown = json.loads(shop("status", "--dialect", dialect, "--json").stdout)
    assert (shown["dialect"], shown["table"], shown["at_expected"]) == ("knex", "public.knex_migrations", False)
    assert [row["standing"] for row in shown["revisions"]] == ["missing", "applied", "pending", "pending"]
    assert shown["revisions"][1]["finished_at"] == "2025-01-26T12:00:00+00:00"
    assert shown["row_lock"] == {"holder": None, "since": None}


async def test_status_checks(shop: Ledgergate, connection: Connection) -> None:
    """Exit 3 until the ledger holds every migration of the directory, 2 where the directory cannot be read."""
    assert shop("status", "--dialect", "knex", "--check").returncode == 3
    for name in ("20250101000002_two.js", "20250101000003_three.js"):
        await connection.execute(ADD, name)
    assert shop("status", "--dialect", "knex", "--check").returncode == 0
    assert shop("status", "--dialect", "knex", "--check", "--dir", "nowhere").returncode == 2
    assert shop("status", "--dialect", "knex", "--dir", "nowhere").returncode == 0


def test_a_ledger_that_is_not_there(ledgergate: Ledgergate) -> None:
    """With --dialect it is empty; without it the tool is unknown: exit 2."""
    done = ledgergate("status", "--dialect", "knex")
    assert done.returncode == 0
    assert "ledger: knex, public.knex_migrations, which is not there yet" in done.stdout
    done = ledgergate("status", "--dialect", "auto")
    assert done.returncode == 2
    assert "name the tool with --dialect" in done.stderr
    assert ledgergate("status", "--dialect", "nonsense").returncode == 2


async def test_wait_for_a_whole_directory(shop: Ledgergate, connection: Connection) -> None:
    """The wait reports what is missing, and ends when the tool, which sends no notification, has recorded it."""
    with waiting(shop, "--dialect", "knex") as process:
        text = line(process.stdout, "waiting for 20250101000003_three")
        words = "missing 20250101000002_two, 20250101000003_three; the head is 20250101000001_one; no migration runs"
        assert words in text
        for name in ("20250101000002_two.js", "20250101000003_three.js"):
            await connection.execute(ADD, name)
        assert process.wait(20) == 0
    expected = shop("revision", "--dialect", "knex").stdout.strip()
    assert shop("wait", "--dialect", "auto", "--revision", expected, "--timeout", "0").returncode == 0
    await connection.execute("delete from knex_migrations where name like '%two%'")
    done = shop("wait", "--dialect", "knex", "--revision", expected, "--timeout", "0")
    assert done.returncode == 3
    assert "missing 20250101000002_two" in done.stderr


async def test_wait_for_a_version(ledgergate: Ledgergate, connection: Connection) -> None:
    """A ledger that keeps numbers holds the migration of that number, whatever it is called."""
    await connection.execute("create table schema_migrations (version varchar primary key)")
    await connection.execute("insert into schema_migrations values ('20250101000000')")
    flags = ("--dialect", "dbmate", "--timeout", "0", "--revision")
    assert ledgergate("wait", *flags, "20250101000000_users").returncode == 0
    assert ledgergate("wait", *flags, "20250101000001_orders").returncode == 3


async def test_exec_expects_the_whole_directory(shop: Ledgergate, connection: Connection) -> None:
    """`--expect all` names the migrations that a command has left out."""
    done = shop("exec", "--dialect", "knex", "--expect", "all", "--", "true")
    assert done.returncode == 3
    assert "missing 20250101000002_two, 20250101000003_three" in done.stderr
    for name in ("20250101000002_two.js", "20250101000003_three.js"):
        await connection.execute(ADD, name)
    done = shop("exec", "--dialect", "knex", "--expect", "all", "--", "false")
    assert done.returncode == 0
    assert done.stdout == "nothing to do: the ledger is at 20250101000003_three (public.knex_migrations)\n"
