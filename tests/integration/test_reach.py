"""How the database is found and reached."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from testbed.ports import free_ports
from testbed.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.postgres import Postgres
    from tests.integration.conftest import Ledgergate


@pytest.fixture
def closed_port() -> int:
    """A port on which nothing listens."""
    return free_ports(1)[0]


def test_every_way_to_name_the_database(ledgergate: Ledgergate, database: str, tmp_path: Path) -> None:
    """The flag comes before DATABASE_URL, that before PG*, that before DB_*; the settings file can stand for a flag."""
    ledgergate.write("one", "select 1")
    del ledgergate.environment["DATABASE_URL"]
    parsed = urlsplit(database)
    parts = {
        "HOST": parsed.hostname or "",
        "PORT": str(parsed.port),
        "USER": parsed.username or "",
        "PASSWORD": parsed.password or "",
    }
    libpq = {f"PG{name}": value for name, value in parts.items()} | {"PGDATABASE": parsed.path[1:]}
    plain = {f"DB_{name}": value for name, value in parts.items()} | {"DB_NAME": parsed.path[1:]}
    wrong = "postgresql://127.0.0.1:1/x"

    assert ledgergate("status").returncode == 2
    assert ledgergate("status", **plain).returncode == 0
    assert ledgergate("status", **libpq, DB_HOST="nowhere.invalid").returncode == 0
    assert ledgergate("status", **libpq | {"PGPORT": "1"}, DATABASE_URL=database).returncode == 0
    assert ledgergate("status", "--database-url", database, DATABASE_URL=wrong).returncode == 0
    assert ledgergate("status", LEDGERGATE_DATABASE_URL=database, DATABASE_URL=wrong).returncode == 0
    (tmp_path / "pass").write_text(f"{parsed.hostname}:{parsed.port}:*:{parsed.username}:{parsed.password}\n")
    (tmp_path / "pass").chmod(0o600)
    del libpq["PGPASSWORD"]
    assert ledgergate("status", **libpq, PGPASSFILE=str(tmp_path / "pass")).returncode == 0
    (tmp_path / "ledgergate.toml").write_text(f'[environments.staging]\ndatabase-url = "{database}"\n')
    assert ledgergate("status", "--env", "staging").returncode == 0
    assert ledgergate("status", NODE_ENV="staging").returncode == 0
    assert ledgergate("status").returncode == 2
    assert "staging" in ledgergate("status", "--env", "stagign").stderr


def test_a_wrong_password_is_reported_at_once_and_never_shown(ledgergate: Ledgergate, database: str) -> None:
    """Exit 4 without a second attempt, and the password is in no message."""
    ledgergate.write("one", "select 1")
    parsed = urlsplit(database)
    url = parsed._replace(netloc=f"{parsed.username}:s3cret@{parsed.hostname}:{parsed.port}").geturl()
    began = time.monotonic()
    done = ledgergate("up", DATABASE_URL=url)
    assert done.returncode == 4
    assert time.monotonic() - began < 10
    assert "password authentication failed" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout


def test_a_server_that_does_not_answer_is_given_up(ledgergate: Ledgergate, closed_port: int) -> None:
    """Exit 4 after --connect-timeout, and the message says where and for how long."""
    ledgergate.write("one", "select 1")
    done = ledgergate("up", "--connect-timeout", "0.5", DATABASE_URL=f"postgresql://u:s3cret@127.0.0.1:{closed_port}/x")
    assert done.returncode == 4
    assert f"127.0.0.1:{closed_port}/x cannot be reached: connection refused (tried for 0.5 s)" in done.stderr
    assert "s3cret" not in done.stderr


async def test_a_server_that_starts_later_is_waited_for(ledgergate: Ledgergate, own_postgres: Postgres) -> None:
    """A proxy or server that is not there yet costs time, not a failure."""
    ledgergate.write("one", "select 1")
    own_postgres.stop()
    with socket.create_server(("127.0.0.1", own_postgres.port)) as proxy:
        proxy.settimeout(60)
        process = ledgergate.start("up", DATABASE_URL=own_postgres.url())
        first, _ = await asyncio.to_thread(proxy.accept)
        first.close()
    own_postgres.start()
    output, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, errors
    assert "applied" in output


async def test_a_full_server_is_waited_for(ledgergate: Ledgergate, own_postgres: Postgres) -> None:
    """Too many connections is a reason to try again."""
    ledgergate.write("one", "select 1")
    url = own_postgres.create_database()
    connection = await asyncpg.connect(own_postgres.url())
    name = urlsplit(url).path[1:]
    await connection.execute(f"create role app login password 'app'; alter database \"{name}\" owner to app")
    await connection.execute(f'alter database "{name}" connection limit 0')
    app = urlsplit(url)._replace(netloc=f"app:app@127.0.0.1:{own_postgres.port}").geturl()
    process = ledgergate.start("up", DATABASE_URL=app)
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await asyncpg.connect(app)
    refused = 'too many connections for database "'
    await asyncio.to_thread(until, "two more refusals", lambda: own_postgres.log.count(refused) > 2)
    assert process.poll() is None
    await connection.execute(f'alter database "{name}" connection limit -1')
    _, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, errors
    await connection.close()


def test_check_says_whether_the_ledger_is_there(ledgergate: Ledgergate) -> None:
    """`status --check` exits 3 until everything is applied; `status` alone exits 0."""
    ledgergate.write("one", "select 1")
    assert ledgergate("status").returncode == 0
    assert ledgergate("status", "--check").returncode == 3
    assert ledgergate("up").returncode == 0
    assert ledgergate("status", "--check").returncode == 0
