"""Which ledger `exec` reads, and what it says where the command writes another; what a rollback needs."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_exec import KNEX
from tests.integration.test_foreign_views import ADD, KNEX_LOCK
from tests.stale_locks import FREE_KNEX, TOOL

if TYPE_CHECKING:
    import subprocess

    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

INSERT = "insert into {} (name, batch) values ('20250101000001_one.js', 1)"
ONE = INSERT.format("knex_migrations")


def tool(ledgergate: Ledgergate, *arguments: str, steps: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `exec` over a tool that writes as Knex does."""
    return ledgergate("exec", "--dialect", "knex", *arguments, "--", sys.executable, "-c", TOOL, *steps)


@pytest.mark.parametrize(
    ("written", "setup"),
    [
        ("changes", ()),
        ("shop.knex_migrations", ("create schema shop",)),
        ('"My Migrations"', ()),
        ("shop.changes", ("create schema shop", KNEX)),
    ],
)
@pytest.mark.parametrize("expect", [(), ("--expect", "20250101000001_one")])
def test_a_ledger_in_another_place(
    ledgergate: Ledgergate, written: str, setup: tuple[str, ...], expect: tuple[str, ...]
) -> None:
    """The command has migrated, but not what was read: exit 3 with both tables, and with the flags that correct it."""
    steps = (*setup, KNEX.replace("knex_migrations", written), INSERT.format(written))
    done = tool(ledgergate, *expect, steps=steps)
    assert done.returncode == 3, done.stdout + done.stderr
    table = written if "." in written else f"public.{written}"
    place = ".".join(f'"{part.strip(chr(34))}"' for part in table.split("."))
    assert f"wrote the ledger {place}, but public.knex_migrations was read" in done.stderr
    assert "--schema and --table" in done.stderr


@pytest.mark.parametrize(
    "steps",
    [
        (KNEX, ONE),
        (KNEX, "create table people (id int, name text, batch int)", "insert into people values (1, 'x', 1)"),
    ],
)
def test_a_ledger_where_it_is_expected(ledgergate: Ledgergate, steps: tuple[str, ...]) -> None:
    """The message names the table that was read; another table with some of its columns is no ledger."""
    done = tool(ledgergate, steps=steps)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" (public.knex_migrations)\n")


async def test_another_ledger_that_stays_as_it_is(ledgergate: Ledgergate, connection: Connection) -> None:
    """An unchanged ledger of another application in the same database does not fail the command."""
    await connection.execute(f"create schema shop; {KNEX.replace('knex_migrations', 'shop.knex_migrations')}")
    await connection.execute(INSERT.format("shop.knex_migrations"))
    assert tool(ledgergate, "--schema", "public", steps=(KNEX, ONE)).returncode == 0
    assert tool(ledgergate, "--schema", "public", steps=("delete from public.knex_migrations",)).returncode == 0


def test_no_ledger_at_all(ledgergate: Ledgergate) -> None:
    """A command that writes none is believed, and the message says that there is none."""
    done = tool(ledgergate, steps=("create table x ()",))
    assert (done.returncode, "there is no ledger public.knex_migrations" in done.stdout) == (0, True)


@pytest.fixture
async def knex(ledgergate: Ledgergate, connection: Connection) -> Ledgergate:
    """A Knex ledger of one migration, with its file."""
    await connection.execute("; ".join([KNEX, ONE, KNEX_LOCK, *FREE_KNEX]))
    (ledgergate.directory / "20250101000001_one.js").touch()
    return ledgergate


def npm(ledgergate: Ledgergate, text: str, *steps: str) -> dict[str, str]:
    """Make `npm run back` a script of this text, which takes these steps; return the environment to find it in."""
    (ledgergate.home / "package.json").write_text(json.dumps({"scripts": {"back": text}}))
    program = ledgergate.home / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, '-c', TOOL, *steps])}\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{ledgergate.environment['PATH']}"}


@pytest.mark.parametrize("expect", ["20250101000001_one", "20250101000001_one+1.7c4a4a1d2b4b", ""])
async def test_a_rollback_is_run(knex: Ledgergate, connection: Connection, expect: str) -> None:
    """The pod's LEDGERGATE_EXPECT names what its image needs, so a rollback is run and not checked against it."""
    environment = npm(knex, "knex migrate:rollback", "delete from knex_migrations")
    done = knex("exec", "--", "npm", "run", "back", LEDGERGATE_EXPECT=expect, **environment)
    assert done.returncode == 0, done.stderr
    assert await connection.fetchval("select count(*) from knex_migrations") == 0
    assert ("CMD goes back, so that LEDGERGATE_EXPECT" in done.stdout) is bool(expect)


async def test_what_goes_forward_is_not_run_again(knex: Ledgergate, connection: Connection) -> None:
    """With the same variable and ledger, a command that does not go back is not run."""
    environment = npm(knex, "knex migrate:latest", "delete from knex_migrations")
    done = knex("exec", "--", "npm", "run", "back", LEDGERGATE_EXPECT="20250101000001_one", **environment)
    assert (done.returncode, "nothing to do" in done.stdout) == (0, True)
    assert await connection.fetchval("select count(*) from knex_migrations") == 1


@pytest.mark.parametrize(("expect", "code"), [("20250101000001_one", 0), ("20250101000002_two", 3)])
async def test_a_rollback_to_what_the_flag_says(
    knex: Ledgergate, connection: Connection, expect: str, code: int
) -> None:
    """It is run although the ledger has that revision, and the flag is checked afterwards."""
    await connection.execute(ADD, "20250101000002_two.js")
    environment = npm(knex, "knex migrate:down", "delete from knex_migrations where name ~ 'two'")
    done = knex("exec", "--expect", expect, "--", "npm", "run", "back", **environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert await connection.fetchval("select count(*) from knex_migrations") == 1


async def test_status_needs_no_more_rights_than_wait(knex: Ledgergate, connection: Connection, database: str) -> None:
    """`SELECT` on the ledger is enough; `status` says that it cannot see the lock."""
    role = f"{database.rpartition('/')[2]}_reader"
    await connection.execute(f"create role {role} login password 'x'; grant select on knex_migrations to {role}")
    url = f"postgresql://{role}:x@{database.rpartition('@')[2]}"
    try:
        for arguments in (("wait", "--timeout", "0"), ("status",), ("status", "--json"), ("verify",)):
            done = knex(*arguments, "--dialect", "knex", DATABASE_URL=url)
            assert done.returncode == 0, done.stdout + done.stderr
        done = knex("status", "--dialect", "knex", DATABASE_URL=url)
        assert 'row lock: unknown, since the role may not read "public"."knex_migrations_lock"' in done.stdout
    finally:
        await connection.execute(f"drop owned by {role}; drop role {role}")


async def test_verify_of_another_tool(knex: Ledgergate, connection: Connection) -> None:
    """Names are compared: what is pending is no problem, what was skipped or has lost its file is."""
    done = knex("verify", "--dialect", "knex")
    assert (done.returncode, done.stdout) == (0, "files and ledger agree\n")
    (knex.directory / "20250101000003_three.ts").touch()
    done = knex("verify", "--dialect", "knex")
    assert (done.returncode, done.stdout) == (0, "files and ledger agree; 1 pending\n")
    await connection.execute(ADD, "20250101000003_three.js")
    (knex.directory / "20250101000002_late.js").touch()
    (knex.directory / "20250101000001_one.js").unlink()
    done = knex("verify", "--dialect", "knex")
    assert done.returncode == 3
    assert "20250101000002_late is not applied, although 20250101000003_three is, which is newer" in done.stderr
    assert "20250101000001_one is applied, but has no file; knex may refuse the directory" in done.stderr
    assert "ledgergate migrate up" not in done.stderr
    done = knex("verify", "--dialect", "alembic")
    assert (done.returncode, "status --check" in done.stderr) == (2, True)


async def test_baseline_of_short_numbers(ledgergate: Ledgergate, connection: Connection) -> None:
    """`001_init.js` is `00000000000001_init.sql` here; a file that is missing is asked for by that name."""
    await connection.execute(KNEX)
    for name in ("001_init.js", "002-more.js"):
        await connection.execute(ADD, name)
    ledgergate.write("00000000000001_init", "select 1")
    done = ledgergate("baseline", "--from", "knex")
    assert done.returncode == 2
    assert "002-more is recorded there, but has no file here: expected 00000000000002_more.sql or .py" in done.stderr
    ledgergate.write("00000000000002_more", "select 1")
    ledgergate.write("00000000000003_next", "select 1")
    done = ledgergate("baseline", "--from", "knex")
    assert done.returncode == 0, done.stderr
    assert "done: recorded 2 as applied" in done.stdout
    assert "00000000000003_next" in done.stdout
