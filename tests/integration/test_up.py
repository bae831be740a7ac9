from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from migrations.dialects.native import NATIVE
from migrations.postgres import advisory_lock

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

LOCK = advisory_lock.lock_key(NATIVE.relation())


async def states(connection: Connection) -> dict[str, str]:
    rows = await connection.fetch("select revision, state from ledgergate_migrations order by id")
    return {row["revision"].partition("_")[2]: row["state"] for row in rows}


async def exists(connection: Connection, relation: str) -> bool:
    return bool(await connection.fetchval("select to_regclass($1) is not null", relation))


async def test_twenty_at_once_apply_each_migration_exactly_once(ledgergate: Ledgergate, connection: Connection) -> None:
    """All exit 0 and each migration ran once, though the database was empty and one builds an index concurrently."""
    ledgergate.write("effects", "create table effects (name text)")
    for number in range(1, 30):
        if number == 15:
            ledgergate.write("index", "create index concurrently effects_name on effects (name)", "transaction:false")
        elif number == 20:
            ledgergate.write(
                "20250101000020_python.py",
                """async def up(connection):\n    await connection.execute("insert into effects values ('20')")\n""",
            )
        else:
            ledgergate.write("effect", f"insert into effects values ('{number}')")  # noqa: S608 - our own number

    runs = [ledgergate.start("up") for _ in range(20)]
    outputs = [run.communicate(timeout=120) for run in runs]

    assert [run.returncode for run in runs] == [0] * 20, outputs
    assert sum(output.count("applied 2025") for output, _ in outputs) == 30
    names = [row["name"] for row in await connection.fetch("select name from effects order by name::int")]
    assert names == [str(number) for number in range(1, 30) if number != 15]
    recorded = await connection.fetch("select revision, state from ledgergate_migrations")
    assert len(recorded) == 30
    assert {row["state"] for row in recorded} == {"applied"}
    assert await connection.fetchval("select indisvalid from pg_index where indexrelid = 'effects_name'::regclass")


async def test_with_nothing_pending_no_lock_is_needed(ledgergate: Ledgergate, connection: Connection) -> None:
    """With nothing pending, `up` succeeds at once even while another session holds the lock."""
    ledgergate.write("one", "select 1")
    assert ledgergate("up").returncode == 0
    await connection.fetchval("select pg_advisory_lock($1)", LOCK)
    done = ledgergate("up", "--lock-timeout", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to do" in done.stdout


async def test_a_lock_that_is_not_free_in_time_names_its_holder(ledgergate: Ledgergate, connection: Connection) -> None:
    """Exit 4, and the message says who holds the lock."""
    ledgergate.write("one", "select 1")
    await connection.execute("set application_name = 'ledgergate pod-9'")
    await connection.fetchval("select pg_advisory_lock($1)", LOCK)
    done = ledgergate("up", "--lock-timeout", "1")
    assert done.returncode == 4
    assert "held by pod-9 (backend " in done.stderr
    assert "waiting for the lock" in done.stdout


async def test_what_is_recorded(ledgergate: Ledgergate, connection: Connection) -> None:
    """A row has everything that the contract names; a run is one batch."""
    ledgergate.write("one", "create table one (id int)")
    ledgergate.write("two", "drop table one", "contract compatible-from:20250101000000_one.sql")
    assert ledgergate("up", "--to", "20250101000000_one.sql").returncode == 0
    assert ledgergate("up").returncode == 0
    one, two = await connection.fetch("select * from ledgergate_migrations order by id")
    assert (one["batch"], two["batch"]) == (1, 2)
    assert (one["compatible_from"], two["compatible_from"]) == (None, "20250101000000_one")
    assert one["applied_by"] == "pod-1"
    assert len(one["checksum"]) == 64
    assert one["duration_ms"] >= 0
    assert one["started_at"] <= one["finished_at"]
    assert one["error"] is None


async def test_an_older_image_has_nothing_to_do(ledgergate: Ledgergate) -> None:
    """`up` with fewer files than the ledger has exits 0 and says that the ledger is ahead."""
    ledgergate.write("one", "select 1")
    newer = ledgergate.write("two", "select 1")
    assert ledgergate("up").returncode == 0
    newer.unlink()
    done = ledgergate("up")
    assert done.returncode == 0
    assert "ahead" in done.stdout
    assert "20250101000001_two" in done.stdout


async def test_a_failing_transactional_migration_leaves_nothing(ledgergate: Ledgergate, connection: Connection) -> None:
    """Exit 1 with file and line; what came before stays, the failing one leaves no trace and can be repeated."""
    ledgergate.write("one", "create table one (id int)")
    two = ledgergate.write("two", "create table two (id int);\n\nselect nonsense;")
    done = ledgergate("up")
    assert done.returncode == 1
    assert "20250101000001_two.sql:4: " in done.stderr
    assert await states(connection) == {"one": "applied"}
    assert not await exists(connection, "two")
    two.write_text("-- migrate:up\ncreate table two (id int);")
    assert ledgergate("up").returncode == 0
    assert await states(connection) == {"one": "applied", "two": "applied"}


async def test_a_failing_non_transactional_migration_is_recorded_and_refused(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """The row says `failed` and why; the next run refuses and says how to go on; an older image still succeeds."""
    ledgergate.write("one", "create table one (id int)")
    two = ledgergate.write("two", "insert into one values (1);\n\nselect nonsense;", "transaction:false")
    done = ledgergate("up")
    assert done.returncode == 1
    assert "20250101000001_two.sql:4: " in done.stderr
    assert await states(connection) == {"one": "applied", "two": "failed"}
    assert "nonsense" in await connection.fetchval("select error from ledgergate_migrations where state = 'failed'")
    again = ledgergate("up")
    assert again.returncode == 1
    assert "nonsense" in again.stderr
    assert "resolve 20250101000001_two --rolled-back" in again.stderr
    assert await connection.fetchval("select count(*) from one") == 1
    assert ledgergate("up", "--to", "20250101000000_one").returncode == 0
    two.unlink()
    assert ledgergate("up").returncode == 0


async def test_a_non_transactional_file_with_a_syntax_error_runs_nothing(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """A file that cannot be cut into statements fails before its first one."""
    ledgergate.write("one", "create table öne (id int);\nselec 1;", "transaction:false")
    done = ledgergate("up")
    assert done.returncode == 1
    assert "20250101000000_one.sql:3: " in done.stderr
    assert await states(connection) == {}


@pytest.mark.parametrize(
    "end",
    ["commit", "COMMIT AND CHAIN", "commit;\nbegin", "rollback", "end", "abort", "prepare transaction 'x'"],
)
async def test_a_migration_that_would_end_its_transaction_is_not_begun(
    ledgergate: Ledgergate, connection: Connection, end: str
) -> None:
    """Half of it would be there and nothing recorded: the run fails before its first statement, and says where."""
    ledgergate.write("one", f"create table one (id int);\n{end};\ncreate table two (id int);")
    done = ledgergate("up")
    assert done.returncode == 1
    assert f"20250101000000_one.sql:3: {end.partition(';')[0]} would end the transaction" in done.stderr
    assert "so nothing of it was run" in done.stderr
    assert await states(connection) == {}
    assert not await exists(connection, "one")


async def test_a_python_migration_that_ends_its_transaction_is_found_out(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """What a function will do is unknown before it runs: the run fails, and the message says what to repair."""
    code = 'async def up(connection):\n    await connection.execute("create table one (id int); commit; begin")\n'
    ledgergate.write("20250101000000_one.py", code)
    done = ledgergate("up")
    assert done.returncode == 1
    assert "so part of it is applied and not recorded" in done.stderr
    assert await states(connection) == {}


async def test_what_only_looks_like_the_end_of_a_transaction_runs(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """Savepoints, the body of a function, a comment and a text are none."""
    ledgergate.write(
        "one",
        "savepoint s; create table one (id int); rollback to savepoint s; -- commit;\n"
        "create function f() returns int language plpgsql as $$ begin return 1; end; $$;\n"
        "create table two (word text default 'commit;');",
    )
    done = ledgergate("up")
    assert (done.returncode, done.stderr) == (0, "")
    assert not await exists(connection, "one")
    assert await exists(connection, "two")


async def test_settings_of_a_migration_end_with_it(ledgergate: Ledgergate, connection: Connection) -> None:
    """The next one begins with the session's own settings and role, whether it runs in the same `up` or a later one."""
    await connection.execute("drop role if exists leaving; create role leaving; grant all on schema public to leaving")
    ledgergate.write("one", "select set_config('search_path', '', false);\nset standard_conforming_strings = off;")
    ledgergate.write("two", "create table two (id int); set role leaving; set lock_timeout = 1")
    ledgergate.write("three", "set work_mem = '1MB'; set role leaving; select 1; vacuum", "transaction:false")
    ledgergate.write(
        "20250101000003_four.py",
        "async def up(connection):\n"
        "    await connection.execute(\"set search_path = ''; create table public.four (id int)\")\n",
    )
    settings = "array[current_user, current_setting('search_path'), current_setting('lock_timeout'), "
    ledgergate.write("five", f"create table five as select {settings} current_setting('work_mem'), '\\'] as found")
    done = ledgergate("up")
    assert (done.returncode, done.stderr) == (0, "")
    found = await connection.fetchval("select found from five")
    await connection.execute("drop owned by leaving; drop role leaving")
    assert found == ["postgres", '"$user", public', "5s", "4MB", "\\"]


async def test_a_non_transactional_migration_may_use_transactions_but_must_end_them(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """It may use BEGIN and COMMIT; it fails if it leaves a transaction open."""
    ledgergate.write("one", "begin; create table one (id int); commit;", "transaction:false")
    ledgergate.write("two", "begin; create table two (id int);", "transaction:false")
    done = ledgergate("up")
    assert done.returncode == 1
    assert "left a transaction open" in done.stderr
    assert await states(connection) == {"one": "applied", "two": "failed"}
    assert await exists(connection, "one")
    assert not await exists(connection, "two")


async def test_python_migrations(ledgergate: Ledgergate, connection: Connection) -> None:
    """They run in the transaction that records them, unless they opt out; an exception is reported with its line."""
    ledgergate.write(
        "20250101000000_one.py",
        """async def up(connection):
    async with connection.transaction():
        await connection.execute("create table one (id int)")
    assert connection.is_in_transaction()
""",
    )
    ledgergate.write(
        "20250101000001_two.py",
        """transaction = False

async def up(connection):
    await connection.execute("create index concurrently one_id on one (id)")
""",
    )
    ledgergate.write(
        "20250101000002_three.py",
        """async def up(connection):
    await connection.execute("create table three (id int)")
    raise ValueError("enough")
""",
    )
    done = ledgergate("up")
    assert done.returncode == 1
    assert "20250101000002_three.py:3: ValueError: enough" in done.stderr
    assert await states(connection) == {"one": "applied", "two": "applied"}
    assert await exists(connection, "one_id")
    assert not await exists(connection, "three")
    assert not (ledgergate.directory / "__pycache__").exists()


@pytest.mark.parametrize("command", [("status",), ("status", "--json"), ("up", "--dry-run"), ("revision",)])
async def test_looking_writes_nothing(ledgergate: Ledgergate, connection: Connection, command: tuple[str, ...]) -> None:
    """No command that only looks creates the ledger."""
    ledgergate.write("one", "create table one (id int)")
    done = ledgergate(*command)
    assert done.returncode == 0
    assert "20250101000000_one" in done.stdout
    assert not await exists(connection, "ledgergate_migrations")
    assert not await exists(connection, "one")


async def test_an_edited_file_is_refused_with_both_sums(ledgergate: Ledgergate, connection: Connection) -> None:
    """Exit 2: the message names the file and both checksums, and nothing is applied."""
    one = ledgergate.write("one", "select 1")
    assert ledgergate("up").returncode == 0
    recorded = await connection.fetchval("select checksum from ledgergate_migrations")
    one.write_text("-- migrate:up\nselect 2")
    ledgergate.write("two", "select 1")
    done = ledgergate("up")
    assert done.returncode == 2
    assert recorded in done.stderr
    assert str(one.name) in done.stderr
    assert await states(connection) == {"one": "applied"}


async def test_a_file_older_than_the_head_is_refused(ledgergate: Ledgergate, connection: Connection) -> None:
    """Exit 2: a migration that was merged late is named."""
    ledgergate.write("20250101000005_five", "select 1")
    assert ledgergate("up").returncode == 0
    ledgergate.write("20250101000004_four", "select 1")
    done = ledgergate("up")
    assert done.returncode == 2
    assert "20250101000004_four" in done.stderr
    assert await states(connection) == {"five": "applied"}


async def test_every_problem_of_the_files_before_anything_is_applied(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """Exit 2, each problem with file and line, the database untouched."""
    ledgergate.write("one", "create table one (id int)")
    ledgergate.write("two", "", "transaction:maybe")
    (ledgergate.directory / "three.sql").write_text("select 1")
    done = ledgergate("up")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 4
    assert "20250101000001_two.sql:1: " in done.stderr
    assert not await exists(connection, "one")


async def test_schema_and_table_are_configurable(ledgergate: Ledgergate, connection: Connection) -> None:
    """The ledger goes where the flags say, whatever has to be quoted, and its schema is created."""
    ledgergate.write("one", "select 1")
    flags = ("--schema", 'Odd "schema"', "--table", "select")
    assert ledgergate("up", *flags).returncode == 0
    assert await connection.fetchval('select count(*) from "Odd ""schema"""."select"') == 1
    assert not await exists(connection, "ledgergate_migrations")
    assert "nothing to do" in ledgergate("up", *flags).stdout


async def test_a_commit_is_announced(ledgergate: Ledgergate, connection: Connection) -> None:
    """Each change of the ledger sends a NOTIFY: one for a transactional migration, two for any other (begun, ended)."""
    heard: list[object] = []
    await connection.add_listener("ledgergate", lambda *arguments: heard.append(arguments[3]))
    ledgergate.write("one", "select 1")
    ledgergate.write("two", "select 1", "transaction:false")
    assert ledgergate("up").returncode == 0
    await connection.execute("select 1")
    assert heard == ["20250101000000_one", "20250101000001_two", "20250101000001_two"]


async def test_log_lines_as_json(ledgergate: Ledgergate) -> None:
    """With `--log-format json` every line is an object with the event's name and fields."""
    ledgergate.write("one", "select 1")
    applied, done = map(json.loads, ledgergate("up", "--log-format", "json").stdout.splitlines())
    assert (applied["event"], applied["revision"], applied["number"], applied["total"]) == (
        "applied",
        "20250101000000_one",
        1,
        1,
    )
    assert done["event"] == "done"
