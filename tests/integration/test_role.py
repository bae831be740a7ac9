"""`--role`: the session acts as another role than the one that connects."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.integration.test_dry_run import psql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

OWNERS = """\
select relname, pg_get_userbyid(relowner) as owner from pg_class
where relnamespace in ('public'::regnamespace, to_regnamespace('s')) and relkind = 'r' order by relname
"""


@pytest.fixture
async def roles(connection: Connection, database: str) -> AsyncIterator[tuple[str, str]]:
    """A role that connects, in a URL, and a role with an odd name that it is a member of, which owns the database."""
    name = urlsplit(database).path.strip("/")
    login, owner = f"{name}_login", f"{name} own\\er's"
    await connection.execute(
        f"""create role "{login}" login password 'x'; create role "{owner}"; grant "{owner}" to "{login}";
        create role "{name}_stranger"; alter database "{name}" owner to "{owner}";
        grant create on schema public to "{owner}", "{login}" """
    )
    parts = urlsplit(database)
    yield urlunsplit(parts._replace(netloc=f"{login}:x@{parts.hostname}:{parts.port}")), owner
    await connection.execute(
        f"""reassign owned by "{owner}", "{login}" to current_user; drop owned by "{owner}", "{login}";
        drop role "{login}", "{owner}", "{name}_stranger" """
    )


async def test_all_that_is_created_belongs_to_the_role(
    ledgergate: Ledgergate, connection: Connection, roles: tuple[str, str]
) -> None:
    """The ledger too; a migration that resets or leaves the role concerns neither the ledger nor the next one."""
    url, owner = roles
    ledgergate.write("one", "create table one ()")
    ledgergate.write("two", "set role none; create table two ()")
    ledgergate.write("three", "reset all; reset role; create table three ()")
    ledgergate.write("four", "create table four ()", "transaction:false")
    done = ledgergate("up", "--role", owner, DATABASE_URL=url)
    assert (done.returncode, done.stderr) == (0, "")
    owners = {row["relname"]: row["owner"] for row in await connection.fetch(OWNERS)}
    assert owners.pop("two") != owner
    assert owners == dict.fromkeys(("one", "three", "four", "ledgergate_migrations"), owner)
    again = ledgergate("status", "--check", DATABASE_URL=url, LEDGERGATE_ROLE=owner)
    assert (again.returncode, again.stderr) == (0, "")


async def test_the_script_of_a_dry_run_acts_as_the_role(
    ledgergate: Ledgergate, connection: Connection, roles: tuple[str, str]
) -> None:
    """Whichever role runs the script in psql, all objects have the same owners as after `up --role`."""
    url, owner = roles
    ledgergate.write("one", "create table one ()")
    ledgergate.write("two", "create table two ()", "transaction:false")
    dry = ledgergate("up", "--dry-run", "--role", owner, DATABASE_URL=url)
    assert dry.returncode == 0
    run = psql(url, dry.stdout)
    assert (run.returncode, run.stderr) == (0, "")
    owners = {row["relname"]: row["owner"] for row in await connection.fetch(OWNERS)}
    assert owners == dict.fromkeys(("one", "two", "ledgergate_migrations"), owner)


@pytest.mark.parametrize(("suffix", "reason"), [("_nosuch", "does not exist"), ("_stranger", "permission denied")])
async def test_a_role_that_cannot_be_taken_is_named(
    ledgergate: Ledgergate, roles: tuple[str, str], suffix: str, reason: str
) -> None:
    """Exit 2, with both roles and the GRANT."""
    url, _ = roles
    name = urlsplit(url).path.strip("/") + suffix
    done = ledgergate("up", "--role", name, DATABASE_URL=url)
    assert done.returncode == 2
    assert reason in done.stderr
    assert f'GRANT "{name}" TO "' in done.stderr
    assert "x@" not in done.stderr


async def test_variables_come_from_a_file_when_asked(
    ledgergate: Ledgergate, connection: Connection, database: str
) -> None:
    """Those that the environment has stay as they are; of several files the first counts; problems end with exit 2."""
    ledgergate.write("one", "select 1")
    del ledgergate.environment["DATABASE_URL"]
    (ledgergate.home / ".env").write_text(f"LEDGERGATE_TABLE=mine\nexport DATABASE_URL='{database}'\n")
    (ledgergate.home / "other").write_text("LEDGERGATE_TABLE=other\nLEDGERGATE_SCHEMA=s\n")
    assert ledgergate("up").returncode == 2
    done = ledgergate("up", "--env-file", ".env", "--env-file", "other")
    assert (done.returncode, done.stderr) == (0, "")
    assert await connection.fetchval("select to_regclass('s.mine') is not null and to_regclass('s.other') is null")
    assert "s.mine" in ledgergate("status", "--env-file", ".env", LEDGERGATE_SCHEMA="s").stdout
    theirs = ledgergate("up", "--env-file", ".env", "--env-file", "other", LEDGERGATE_TABLE="theirs")
    assert (theirs.returncode, "s.mine" in theirs.stdout) == (0, False)
    assert await connection.fetchval("select to_regclass('s.theirs') is not null")
    (ledgergate.home / "bad").write_text("oops\n")
    refused = ledgergate("up", "--env-file", "bad", "--env-file", "gone")
    assert refused.returncode == 2
    assert "bad:1: expected NAME=VALUE" in refused.stderr
    assert "gone: expected a readable file" in refused.stderr
