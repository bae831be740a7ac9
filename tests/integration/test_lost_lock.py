"""The ledger is written only under its lock, and a migration that ends its run or its session has failed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from migrations.core.migration import Migration, SectionBody
from migrations.postgres import advisory_lock
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.postgres.errors import StatementFailed
from migrations.runner.ledger_writer import LedgerWriter, prepare_table
from tests.integration.test_interruption import SLEEP, go_on, until

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

HEADER = """import asyncio, os, sys


async def up(connection):
    await connection.execute("create table one (id int)")
"""
UNLOCK = "await connection.execute('select pg_advisory_unlock_all()')"


def python(*lines: str, options: str = "") -> str:
    """Return a Python migration whose `up` begins on line 4 and runs the lines from line 6 on."""
    body = "".join(f"    {line}\n" for line in lines)
    return f"{options}{HEADER}{body}\n\nasync def down(connection):\n    pass\n"


async def states(connection: Connection) -> dict[str, tuple[str, str | None]]:
    """Return state and error of each row of the ledger."""
    rows = await connection.fetch("select revision, state, error from ledgergate_migrations")
    return {row["revision"][15:]: (row["state"], row["error"]) for row in rows}


@pytest.mark.parametrize("options", ["", "transaction:false"])
@pytest.mark.parametrize(
    "sql",
    [
        "select pg_advisory_unlock_all()",
        "do $$ begin perform pg_advisory_unlock_all(); end $$",
        """select pg_advisory_unlock((classid::bigint << 32) | objid::bigint)
        from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and objsubid = 1""",
    ],
)
async def test_a_migration_that_lets_go_of_the_lock_is_not_recorded(
    ledgergate: Ledgergate, connection: Connection, sql: str, options: str
) -> None:
    """It has failed, with its file and line; what follows it is not applied."""
    ledgergate.write("one", f"create table one (id int);\n{sql};\ncreate table after (id int);", options)
    ledgergate.write("two", "create table two (id int)")
    done = ledgergate("up")
    assert done.returncode == 1
    assert "_one.sql:" in done.stderr
    assert "let go of the advisory lock" in done.stderr
    assert "pg_advisory_xact_lock" in done.stderr
    if not options:
        assert await states(connection) == {}
    else:
        state, error = (await states(connection))["one"]
        assert (state, "let go of the advisory lock" in (error or "")) == ("failed", True)
    for table in ("after", "two"):
        assert await connection.fetchval("select to_regclass($1)", table) is None


@pytest.mark.parametrize("statement", ["discard all", "DISCARD  ALL"])
async def test_discard_all_keeps_the_lock(ledgergate: Ledgergate, connection: Connection, statement: str) -> None:
    """DISCARD ALL resets everything else of the session, and a second run waits for the lock."""
    ledgergate.write(
        "one",
        """create temp table gone (id int); set work_mem = '7MB'; select pg_advisory_lock(5); DISCARD;
        create table one as select to_regclass('gone') is null and current_setting('work_mem') <> '7MB' as fresh,
            (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks;
        SLEEP""".replace("DISCARD", statement).replace("SLEEP", SLEEP),
        "transaction:false",
    )
    process = ledgergate.start("up")
    await until(connection, "select to_regclass('one') is not null", 60)
    assert ledgergate("up", "--lock-timeout", "0.2").returncode == 4
    await go_on(connection)
    await asyncio.to_thread(process.communicate)
    assert process.returncode == 0
    assert tuple(await connection.fetchrow("select * from one") or ()) == (True, 2)  # ours and its companion


@pytest.mark.parametrize("transactional", [True, False])
@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("sys.exit()",), "6: SystemExit"),
        (("sys.exit(0)",), "6: SystemExit: 0"),
        (("__import__('argparse').ArgumentParser().error('x')",), "6: SystemExit: 2"),
        (("raise KeyboardInterrupt",), "6: KeyboardInterrupt"),
        (("raise GeneratorExit",), "6: GeneratorExit"),
        (("raise asyncio.CancelledError('x')",), "6: CancelledError"),
        (("await connection.close()",), "6: closed the connection"),
        (("connection.terminate()",), "6: closed the connection"),
        ((UNLOCK,), "let go of the advisory lock"),
        (("os.fork()",), "6: forked this process"),
        (("if os.fork() == 0:", "    await connection.execute('select 1')"), "6: forked this process"),
    ],
)
async def test_a_python_migration_that_ends_the_run_has_failed(
    ledgergate: Ledgergate, connection: Connection, lines: tuple[str, ...], reason: str, *, transactional: bool
) -> None:
    """Exit 1 with file and line; the ledger has the reason where the migration ran outside a transaction."""
    options = "" if transactional else "transaction = False\n"
    text = python(*lines, options=options)
    if options:
        reason = reason.replace("6:", "7:", 1) if reason.startswith("6") else reason
    ledgergate.write("one.py", text)
    done = ledgergate("up")
    assert done.returncode == 1, done.stdout + done.stderr
    assert reason in done.stderr
    assert "_one failed. migrations/" in done.stderr
    assert "Traceback" not in done.stderr
    found = await states(connection)
    if transactional:
        assert found == {}
        assert await connection.fetchval("select to_regclass('one')") is None
    else:
        assert found["one"][0] == "failed"
        assert reason in str(found["one"][1])


@pytest.mark.parametrize("line", ["sys.exit()", "raise SystemExit(0)"])
async def test_a_python_module_that_exits_has_failed(ledgergate: Ledgergate, line: str) -> None:
    """So does one that exits while it is loaded."""
    ledgergate.write("one.py", f"import sys\n{line}\n\n\n{python()}")
    done = ledgergate("up")
    assert done.returncode == 1
    assert "_one.py:2: SystemExit" in done.stderr


async def test_a_task_of_a_python_migration_that_exits(ledgergate: Ledgergate, connection: Connection) -> None:
    """An exit in another task ends the event loop, and the run with 1."""
    ledgergate.write(
        "one.py",
        python("async def work():", "    sys.exit(0)", "task = asyncio.create_task(work())", "await asyncio.sleep(2)"),
    )
    done = ledgergate("up")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "_one.py:7: SystemExit" in done.stderr
    assert await states(connection) == {}


KILL = "select pg_terminate_backend(pg_backend_pid())"


@pytest.mark.parametrize("options", ["", "transaction:false"])
async def test_a_migration_that_ends_its_own_backend_has_failed(
    ledgergate: Ledgergate, connection: Connection, options: str
) -> None:
    """Exit 1 with file and line, and not 4: the server is there."""
    ledgergate.write("one", f"create table one (id int);\n{KILL};", options)
    done = ledgergate("up")
    assert done.returncode == 1, done.stderr
    assert "_one.sql:3: the connection was lost 3 times while it ran" in done.stderr
    found = await states(connection)
    assert (found == {}) if not options else (found["one"][0] == "failed")


@pytest.mark.parametrize("transactional", [True, False])
async def test_a_python_migration_that_ends_its_own_backend(
    ledgergate: Ledgergate, connection: Connection, *, transactional: bool
) -> None:
    """The same in Python."""
    options = "" if transactional else "transaction = False\n"
    ledgergate.write("one.py", python(f"await connection.execute({KILL!r})", options=options))
    done = ledgergate("up")
    assert done.returncode == 1, done.stderr
    assert "_one.py:" in done.stderr
    found = await states(connection)
    assert (found == {}) if transactional else (found["one"][0] == "failed")


async def test_a_process_of_multiprocessing_is_no_copy_of_the_run(ledgergate: Ledgergate) -> None:
    """A library that forks and ends its child processes itself is allowed, and so is `subprocess`."""
    ledgergate.write(
        "one.py",
        python(
            "import multiprocessing, subprocess",
            "process = multiprocessing.get_context('fork').Process(target=print)",
            "process.start()",
            "process.join()",
            "subprocess.run(['true'], check=True)",
        ),
    )
    done = ledgergate("up")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["begin", "resume", "record", "unrecord"])
async def test_the_ledger_refuses_a_session_without_the_lock(database: str, tmp_path: Path, name: str) -> None:
    """Each guarded statement fails once the lock is let go, and a reset of the session does not acquire it again."""
    session = await connect(Address.from_url(database), timeout=5, application_name="first")
    async with advisory_lock.try_lock(session, 7) as acquired:
        assert acquired
        session.lock_pid = await session.fetch_value("select pg_backend_pid()")
        writer = LedgerWriter("public", "ledgergate_migrations", 1, "pod-1", lock=session.lock)
        await prepare_table(session, writer)
        migration = Migration("x", tmp_path / "x.sql", "sum", SectionBody("select 1"))
        await session.execute(writer.guarded_statement("begin", session, migration).replace("$1", "1"))
        await session.reset()
        other = replace(migration, revision="x" if name in {"resume", "unrecord"} else "y")
        statement = writer.guarded_statement(name, session, other)
        await session.execute("select pg_advisory_unlock_all()")
        with pytest.raises(StatementFailed) as refused:
            await session.execute(f"begin deferrable; {statement.replace('$1', '1')}; commit")
        assert writer.is_lock_lost(refused.value)
        await session.rollback()
        await session.reset()
        assert not await session.fetch_value(
            "select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'"
        )
    await session.close()
