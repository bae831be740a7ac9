"""`ledgergate migrate wait`: blocks until the ledger holds a revision, whatever the database does meanwhile."""

from __future__ import annotations

import selectors
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from migrations.dialects.native import NATIVE
from migrations.postgres import advisory_lock
from tests.integration.conftest import Ledgergate

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    import asyncpg

    from testbed.postgres import Postgres

    Connection = asyncpg.Connection[asyncpg.Record]


@contextmanager
def waiting(ledgergate: Ledgergate, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Start `wait`; it is gone afterwards, whatever the test did."""
    process = ledgergate.start("wait", *flags)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(stream: IO[str] | None, words: str) -> str:
    """Read up to the line that has these words, and return it."""
    assert stream is not None
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and selector.select(deadline - time.monotonic()):
            text = stream.readline()
            if words in text or not text:
                break
    assert words in text
    return text


def test_it_waits_for_the_whole_directory(ledgergate: Ledgergate) -> None:
    """It says what is missing, hears of each migration, and ends when the last one is in."""
    ledgergate.write("one", "select 1")
    ledgergate.write("two", "select 1")
    with waiting(ledgergate) as process:
        text = line(process.stdout, "waiting for 20250101000001_two")
        assert "missing 20250101000000_one, 20250101000001_two; the head is none (the table" in text
        assert text.endswith("public.ledgergate_migrations does not exist); no migration runs now\n")
        assert ledgergate("up", "--to", "20250101000000_one").returncode == 0
        assert process.poll() is None
        assert ledgergate("up").returncode == 0
        assert process.wait(10) == 0
        line(process.stdout, "the ledger holds 20250101000001_two")


def test_a_revision_needs_no_directory(ledgergate: Ledgergate, tmp_path: Path) -> None:
    """An application's image that knows only its revision can wait for it; at once when it is there already."""
    ledgergate.write("one", "select 1")
    flags = ("--dir", str(tmp_path / "nowhere"), "--timeout", "0")
    assert ledgergate("wait", "--revision", "20250101000000_one.sql", *flags).returncode == 3
    assert ledgergate("up").returncode == 0
    done = ledgergate("wait", "--revision", "20250101000000_one.sql", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert ledgergate("wait", "--revision", "a+b", *flags).returncode == 2
    assert ledgergate("wait", *flags).returncode == 2


async def test_the_long_form_finds_a_gap(ledgergate: Ledgergate, connection: Connection) -> None:
    """A revision that is applied while an older one is missing is not what the image was built for."""
    ledgergate.write("one", "select 1")
    ledgergate.write("two", "select 1")
    assert ledgergate("up").returncode == 0
    expected = ledgergate("revision").stdout.strip()
    await connection.execute("delete from ledgergate_migrations where revision like '%one'")
    assert ledgergate("wait", "--revision", "20250101000001_two").returncode == 0
    done = ledgergate("wait", "--revision", expected, "--timeout", "1")
    assert done.returncode == 3
    assert "missing 20250101000000_one" in done.stderr


async def test_the_timeout_names_the_run_in_progress(ledgergate: Ledgergate, connection: Connection) -> None:
    """Exit 3, with what is missing, what failed and who holds the lock."""
    ledgergate.write("one", "select nonsense", "transaction:false")
    assert ledgergate("up").returncode == 1
    await connection.execute("set application_name = 'ledgergate pod-9'")
    await connection.fetchval("select pg_advisory_lock($1)", advisory_lock.lock_key(NATIVE.relation()))
    done = ledgergate("wait", "--timeout", "2")
    assert done.returncode == 3
    for words in ("gave up after 2 s: missing 20250101000000_one", "one failed: ", "nonsense", "pod-9"):
        assert words in done.stderr, words


def test_a_database_that_is_down_is_waited_for(tmp_path: Path, own_postgres: Postgres) -> None:
    """Not there yet, stopped in between: `wait` says why and goes on; only the time ends it, with exit 4."""
    ledgergate = Ledgergate(tmp_path, own_postgres.url())
    ledgergate.write("one", "select 1")
    own_postgres.stop()
    done = ledgergate("wait", "--timeout", "0.5")
    assert done.returncode == 4
    assert "the ledger cannot be read: " in done.stderr
    assert "connection refused" in done.stderr
    with waiting(ledgergate) as process:
        line(process.stdout, "connection refused")
        own_postgres.start()
        assert ledgergate("up").returncode == 0
        assert process.wait(20) == 0
