"""`ledgergate migrate exec`: any command under the lock of a ledger; the real console script, a shell as the tool."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from migrations.postgres import advisory_lock
from testbed import waiting
from tests.integration.conftest import PROGRAM
from tests.integration.test_child import alive, noted
from tests.integration.test_interruption import until
from tests.integration.test_wait import line

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

KNEX = (
    "create table knex_migrations (id serial primary key, name varchar(255), batch integer, migration_time timestamptz)"
)
KEY = advisory_lock.lock_key('"public"."knex_migrations"')
HELD = "select exists (select from pg_locks where locktype = 'advisory' and objsubid = 1)"


@contextmanager
def running(ledgergate: Ledgergate, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start `exec`; it is gone afterwards, whatever the test did."""
    process = ledgergate.start("exec", *arguments, **environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
async def knex(connection: Connection) -> Connection:
    """A Knex ledger that holds `one`."""
    await connection.execute(KNEX)
    await connection.execute("insert into knex_migrations (name, batch) values ('20250101000000_one.js', 1)")
    return connection


def test_the_command_has_our_streams(ledgergate: Ledgergate) -> None:
    """The command gets ledgergate's streams, its arguments and variables unchanged; its end is reported."""
    script = 'cat; echo "$1 $2 $WORD"; echo wrong >&2'
    done = subprocess.run(
        [PROGRAM, "migrate", "exec", "--dialect", "knex", "sh", "-c", script, "sh", "--expect", "a b"],
        cwd=ledgergate.home,
        env={**ledgergate.environment, "WORD": "word"},
        input="given\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "wrong\n")
    text = "there is no ledger public.knex_migrations; if CMD keeps it elsewhere, name it by --schema and --table"
    assert done.stdout == f"given\n--expect a b word\ndone: {text}\n"


@pytest.mark.parametrize(("script", "how"), [("exit 7", "sh exited with 7"), ("kill -9 $$", "sh was ended by SIGKILL")])
def test_a_command_that_fails(ledgergate: Ledgergate, script: str, how: str) -> None:
    """Exit 1, and its own exit code is in the message and in the JSON."""
    done = ledgergate("exec", "--dialect", "knex", "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (1, f"error: {how}\n")
    done = ledgergate("exec", "--dialect", "knex", "--log-format", "json", "--", "sh", "-c", script)
    assert '"event": "command_failed"' in done.stderr
    assert f'"exit_code": {7 if "7" in how else -9}' in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dialect", "knex", "--", "no-such-program"), "found no 'no-such-program' on PATH"),
        (("--dialect", "nonsense", "--", "true"), "expected a ledger dialect ("),
        (("--", "true"), "expected --dialect to name the tool"),
        (("--dialect", "knex", "--expect", "a+b", "--", "true"), "expected a revision as NAME or NAME+COUNT.DIGEST"),
        (("--dialect", "knex"), "Missing argument"),
    ],
)
def test_bad_usage(ledgergate: Ledgergate, arguments: tuple[str, ...], words: str) -> None:
    """Exit 2, and nothing is run."""
    done = ledgergate("exec", *arguments)
    assert done.returncode == 2
    assert words in done.stderr


async def test_what_is_complete_is_not_run_and_needs_no_lock(ledgergate: Ledgergate, knex: Connection) -> None:
    """A ledger that holds --expect, whatever the name's extension, ends it at once even while another run migrates."""
    await knex.execute("select pg_advisory_lock($1)", KEY)
    for expect in ("20250101000000_one", "20250101000000_one.ts"):
        done = ledgergate("exec", "--expect", expect, "--", "sh", "-c", "touch ran")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "nothing to do: the ledger is at 20250101000000_one (public.knex_migrations)\n"
    assert not (ledgergate.home / "ran").exists()


async def test_a_command_that_does_not_bring_the_ledger_there(ledgergate: Ledgergate, knex: Connection) -> None:
    """Exit 3 with what is there; without --expect the command is believed."""
    done = ledgergate("exec", "--expect", "20250101000001_two", "--", "true")
    assert done.returncode == 3
    assert "20250101000001_two is not applied; the head is 20250101000000_one" in done.stderr
    assert ledgergate("exec", "--", "true").returncode == 0
    await knex.execute("insert into knex_migrations (name, batch) values ('20250101000001_two.js', 2)")
    assert ledgergate("exec", "--", "false", LEDGERGATE_EXPECT="20250101000001_two").returncode == 0


async def test_the_lock_is_free_on_both_sides(ledgergate: Ledgergate, connection: Connection) -> None:
    """It is held while the command runs, and neither before nor after."""
    with running(
        ledgergate, "--dialect", "knex", "--", "sh", "-c", "echo 1 > up; while [ ! -e go ]; do sleep 0.02; done"
    ):
        noted(ledgergate.home / "up")
        assert await connection.fetchval(HELD)
        assert not await connection.fetchval("select pg_try_advisory_lock($1)", KEY)
        (ledgergate.home / "go").touch()
        await until(connection, f"select not ({HELD})")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("--dialect", "dbmate", "--", "sh", "-c"), ("exec", "--dialect", "golang-migrate", "--", "sh", "-c")),
        (("--dialect", "ledgergate", "--", "sh", "-c"), ("up",)),
        (("--dialect", "knex", "--", "sh", "-c"), ("up", "--table", "knex_migrations")),
    ],
)
def test_tools_that_write_one_table_exclude_each_other(
    ledgergate: Ledgergate, first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    """`exec` over a tool and the native runner, on one table: one waits for the other, and names it."""
    ledgergate.write("one", "select 1")
    hold = "echo 1 > up; while [ ! -e go ]; do sleep 0.02; done; echo first >> order"
    script = ("echo second >> order",) if second[0] == "exec" else ()
    with running(ledgergate, *first, hold) as held:
        noted(ledgergate.home / "up")
        waits = ledgergate.start(*second, *script, POD_NAME="pod-2")
        line(waits.stdout, "waiting for the lock, held by pod-1 (backend ")
        (ledgergate.home / "go").touch()
        assert held.wait(20) == 0
        rest, errors = waits.communicate(timeout=120)
        assert waits.returncode == 0, rest + errors
    if script:
        assert (ledgergate.home / "order").read_text() == "first\nsecond\n"


async def test_a_lost_session_ends_the_command(ledgergate: Ledgergate, connection: Connection) -> None:
    """A command that loses the lock is ended: exit 4, with the reason."""
    script = "echo $$ > pid; while :; do sleep 0.05; done"
    with running(ledgergate, "--dialect", "knex", "--", "sh", "-c", script) as process:
        pid = noted(ledgergate.home / "pid")
        await connection.execute("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'")
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 4
        assert "sh was ended by SIGTERM: the session that holds the lock was lost" in errors
        assert not alive(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(ledgergate: Ledgergate, number: signal.Signals) -> None:
    """The command gets the same signal, and its end is our end."""
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo heard {name}; exit 9' {name}; echo 1 > up; while :; do sleep 0.05; done"
    with running(ledgergate, "--dialect", "knex", "--", "sh", "-c", script) as process:
        noted(ledgergate.home / "up")
        process.send_signal(number)
        output, errors = process.communicate(timeout=120)
        assert (process.returncode, output, errors.splitlines()[-1]) == (
            1,
            f"heard {name}\n",
            "error: sh exited with 9",
        )


async def test_a_signal_before_the_command_runs(ledgergate: Ledgergate, connection: Connection) -> None:
    """While `exec` waits for the lock, SIGTERM ends it, and the command is never run."""
    await connection.execute("select pg_advisory_lock($1)", KEY)
    with running(ledgergate, "--dialect", "knex", "--", "touch", "ran") as process:
        line(process.stdout, "waiting for the lock")
        process.terminate()
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (1, "error: stopped by SIGTERM; the command was not running\n")
    assert not (ledgergate.home / "ran").exists()


def test_sigkill_takes_the_command_with_it(ledgergate: Ledgergate) -> None:
    """The lock ends with ledgergate's process, so the command must end with it, too."""
    with running(
        ledgergate, "--dialect", "knex", "--", "sh", "-c", 'sh -c "echo \\$\\$ > pid; sleep 79; :"; :'
    ) as process:
        pid = noted(ledgergate.home / "pid")
        process.kill()
        process.wait()
        waiting.until("the grandchild's end", lambda: not alive(pid))


def test_a_command_that_takes_too_long(ledgergate: Ledgergate) -> None:
    """--timeout ends it: exit 1."""
    done = ledgergate("exec", "--dialect", "knex", "--timeout", "0.3", "--", "sleep", "78")
    assert done.returncode == 1
    assert "sleep was ended by SIGTERM: it took longer than --timeout 0.3" in done.stderr


def test_a_busy_lock_is_given_up(ledgergate: Ledgergate) -> None:
    """Exit 4 after --lock-timeout, and the message names the holder."""
    script = "echo 1 > up; while [ ! -e go ]; do sleep 0.02; done"
    with running(ledgergate, "--dialect", "knex", "--", "sh", "-c", script):
        noted(ledgergate.home / "up")
        done = ledgergate("exec", "--dialect", "knex", "--lock-timeout", "0.2", "--", "touch", "ran")
        assert done.returncode == 4
        assert "the lock was not free within 0.2 s; it is held by pod-1 (backend " in done.stderr
    assert not (ledgergate.home / "ran").exists()


async def test_a_dirty_ledger_is_reported_before_the_command_runs(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """A run that golang-migrate left unfinished must be repaired with golang-migrate; ledgergate has no flag for it."""
    await connection.execute("create table schema_migrations (version bigint primary key, dirty boolean not null)")
    await connection.execute("insert into schema_migrations values (7, true)")
    done = ledgergate("exec", "--dialect", "golang-migrate", "--clear-stale-lock", "--", "echo", "ran")
    assert done.returncode == 0
    assert "7 is failed in the ledger, but no run holds our lock\nran\n" in done.stdout
    assert await connection.fetchval("select dirty from schema_migrations")


def test_what_is_imported(ledgergate: Ledgergate) -> None:
    """Nothing that faces Kubernetes, and no grammar of SQL."""
    code = (
        "import sys; from webhook.cli.main import main\ntry: main()\n"
        "finally: print(','.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "migrate", "exec", "--dialect", "knex", "--", "true"],
        cwd=ledgergate.home,
        env={**ledgergate.environment, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    imported = done.stderr.strip().split(",")
    assert "migrations.tools.execution" in imported
    assert not {"kubernetes_asyncio", "aiohttp", "pglast", "prometheus_client", "rich"} & set(imported)
