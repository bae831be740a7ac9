"""A real PgBouncer between the runner and the server: session mode works, transaction mode is refused."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from testbed.ports import free_ports
from testbed.tools import debian
from testbed.tools.install import InstallError
from testbed.waiting import until
from tests.integration.test_up import exists, states

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]


@contextmanager
def pgbouncer(home: Path, database: str, mode: str, size: int) -> Iterator[str]:
    """Run PgBouncer in front of the database, and yield the URL that leads through it."""
    parsed = urlsplit(database)
    (port,) = free_ports(1)
    settings = f"""[databases]
* = host={parsed.hostname} port={parsed.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {home}/users
pool_mode = {mode}
default_pool_size = {size}
"""
    (home / "pgbouncer.ini").write_text(settings)
    (home / "users").write_text(f'"{parsed.username}" "{parsed.password}"\n')
    program, environment = _program(home)
    arguments: dict[str, object] = {}
    if os.geteuid() == 0:  # which it refuses to be
        nobody = pwd.getpwnam("nobody")
        for path in (home, *home.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        arguments = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(  # type: ignore[call-overload]
            [program, str(home / "pgbouncer.ini")], stdout=log, stderr=log, env=os.environ | environment, **arguments
        )
    try:
        until("pgbouncer", lambda: _answers(port) or process.poll() is not None)
        assert process.poll() is None, (home / "log").read_text()
        yield parsed._replace(netloc=f"{parsed.username}:{parsed.password}@127.0.0.1:{port}").geturl()
    finally:
        process.terminate()
        process.wait()


def _program(home: Path) -> tuple[Path, dict[str, str]]:
    """Copy PgBouncer to where its user can read it, and return it with the environment that it needs."""
    try:
        program, environment = debian.program("pgbouncer")
    except InstallError as reason:
        pytest.skip(str(reason))
    if libraries := environment.get("LD_LIBRARY_PATH"):
        shutil.copytree(libraries, home / "lib")
        environment = {"LD_LIBRARY_PATH": str(home / "lib")}
    return Path(shutil.copy(program, home / "pgbouncer")), environment


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that PgBouncer's user can get at."""
    directory = Path(tempfile.mkdtemp(prefix="ledgergate-pgbouncer-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("size", [1, 5])
async def test_transaction_mode_is_refused(
    ledgergate: Ledgergate, connection: Connection, database: str, home: Path, size: int
) -> None:
    """Exit 2 with the fix, even where the pool has one connection, which all transactions share; nothing is written."""
    ledgergate.write("one", "create table one (id int)")
    with pgbouncer(home, database, "transaction", size) as url:
        done = await asyncio.to_thread(ledgergate, "up", DATABASE_URL=url)
    assert done.returncode == 2, done.stderr
    assert "pooler in transaction mode" in done.stderr
    assert "pool_mode = session" in done.stderr
    assert str(urlsplit(database).password) not in done.stderr
    assert not await exists(connection, "one")
    assert not await exists(connection, "ledgergate_migrations")


@pytest.mark.parametrize("size", [1, 5])
async def test_session_mode_passes(
    ledgergate: Ledgergate, connection: Connection, database: str, home: Path, size: int
) -> None:
    """Through a pool in session mode `up` works as without one, even where the pool has one connection."""
    ledgergate.write("one", "create table one (id int)")
    ledgergate.write("two", "create index concurrently one_id on one (id)", "transaction:false")
    with pgbouncer(home, database, "session", size) as url:
        done = await asyncio.to_thread(ledgergate, "up", DATABASE_URL=url)
        assert done.returncode == 0, done.stderr
        assert "nothing to do" in (await asyncio.to_thread(ledgergate, "up", DATABASE_URL=url)).stdout
    assert await states(connection) == {"one": "applied", "two": "applied"}


async def test_with_nothing_pending_the_mode_does_not_matter(ledgergate: Ledgergate, database: str, home: Path) -> None:
    """What needs no lock works through any pool."""
    ledgergate.write("one", "create table one (id int)")
    assert (await asyncio.to_thread(ledgergate, "up")).returncode == 0
    with pgbouncer(home, database, "transaction", 2) as url:
        done = await asyncio.to_thread(ledgergate, "up", DATABASE_URL=url)
    assert (done.returncode, done.stderr) == (0, "")


async def test_many_at_once_through_transaction_mode_run_nothing(
    ledgergate: Ledgergate, connection: Connection, database: str, home: Path
) -> None:
    """Transaction mode is refused too while many runs at once make connections change hands all the time."""
    ledgergate.write("one", "create table one (id int)")
    with pgbouncer(home, database, "transaction", 3) as url:
        runs = [ledgergate.start("up", DATABASE_URL=url) for _ in range(8)]
        codes = [(await asyncio.to_thread(run.communicate), run.returncode)[1] for run in runs]
    assert codes == [2] * 8
    assert not await exists(connection, "one")
