"""A right that is missing: the message names role, object and the statement that grants it, and it helps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

GRANT = re.compile(r"runs `([^`]+)`")
PREPARE = """
create schema app; create schema "o'r";
create table app.orders (id int); create view app.newest as select * from app.orders;
create sequence app.numbers;
create function app.f() returns int language sql as 'select 1'; revoke execute on function app.f() from public;
create function app.t() returns trigger language plpgsql as 'begin return null; end';
create type app.kind as enum ('a'); revoke usage on type app.kind from public;
create table "o'r"."Ünder" (id int primary key);
grant usage on schema app, "o'r" to "{role}";
grant create on schema public to "{role}";
"""
# SQL of a migration, and the privileges of which a message must speak; OTHER is a role.
DENIED = {
    "insert": ("select 1;\ninsert into app.orders values (1)", "INSERT"),
    "select": ("create table a as select * from app.newest", "SELECT"),
    "update": ("update app.orders set id = 1 where id = 2", "SELECT, UPDATE"),
    "delete": ("delete from app.orders", "SELECT, DELETE"),
    "truncate": ("truncate app.orders", "TRUNCATE"),
    "rows of COPY": ("copy app.orders from stdin;\n1\n\\.\n", "INSERT"),
    "references": ('create table a (id int references "o\'r"."Ünder")', "REFERENCES"),
    "trigger": ("create trigger t after insert on app.orders execute function app.t()", "TRIGGER"),
    "type": ("create table a (x app.kind)", "USAGE"),
    "create": ("create table app.x ()", "CREATE"),
    "a schema": ("create schema x", "CREATE"),
    "owner": ("alter table app.orders add column x int", "is not its owner"),
    "owner of a schema": ("alter schema app rename to app_2", "is not its owner"),
    "function": ("select app.f()", "EXECUTE"),
    "sequence": ("select nextval('app.numbers')", "USAGE"),
    "role": ("set role OTHER; select 1", "is no member of it"),
    "create role": ("create role OTHER_2", "createrole"),
    "another role": ("set local role OTHER; insert into app.orders values (1)", "INSERT|USAGE"),
    "outside a transaction": ("insert into app.orders values (1)", "INSERT"),
    "Python": ("insert into app.orders values (1)", "INSERT"),
}


@pytest.fixture
async def address(database: str, connection: Connection) -> AsyncIterator[str]:
    """The address of a role with few rights; another role is called `other_` and its name."""
    parts = urlsplit(database)
    role = f"app_{parts.path[1:]}"
    await connection.execute(f"""create role "{role}" login password 'r'; create role other_{role}""")
    await connection.execute(PREPARE.format(role=role))
    yield parts._replace(netloc=f"{role}:r@{parts.hostname}:{parts.port}").geturl()
    for each in (f"other_{role}", role):
        await connection.execute(f'reassign owned by "{each}" to current_user; drop owned by "{each}" cascade')
        await connection.execute(f'drop role if exists {each}_2; drop role "{each}"')


@pytest.mark.parametrize("case", DENIED)
async def test_a_migration_lacks_a_right(
    case: str, ledgergate: Ledgergate, connection: Connection, address: str
) -> None:
    """Exit 1, and after the statements of the messages the migration is applied."""
    role = str(urlsplit(address).username)
    if case == "another role":
        await connection.execute(f"grant other_{role} to {role}")
    sql, words = DENIED[case]
    sql = sql.replace("OTHER", f"other_{role}")
    if case == "Python":
        ledgergate.write("a.py", f'async def up(connection):\n    await connection.execute("{sql}")\n')
    else:
        ledgergate.write("a", sql, "transaction:false" if case == "outside a transaction" else "")
    done = ledgergate("up", DATABASE_URL=address)
    assert done.returncode == 1
    assert "the role other_" in done.stderr if case == "another role" else f"the role {role} " in done.stderr
    assert any(each in done.stderr for each in words.split("|")), done.stderr
    for _ in range(3):
        (statement,) = GRANT.findall(done.stderr)
        await connection.execute(statement)
        done = ledgergate("up", DATABASE_URL=address)
        if done.returncode == 0:
            return
    pytest.fail(done.stderr)


async def test_a_policy_is_no_missing_privilege(ledgergate: Ledgergate, connection: Connection, address: str) -> None:
    """No statement is proposed where a grant would not help; the role is named."""
    role = urlsplit(address).username
    await connection.execute(f"alter table app.orders enable row level security; grant all on app.orders to {role}")
    ledgergate.write("a", "insert into app.orders values (1)")
    done = ledgergate("up", DATABASE_URL=address)
    assert done.returncode == 1
    assert f'row-level security policy for table "orders"; it was the role {role}' in done.stderr
    assert not GRANT.findall(done.stderr)


@pytest.mark.parametrize("command", ["status", "verify", "wait", "up"])
async def test_the_ledger_cannot_be_read(
    command: str, ledgergate: Ledgergate, connection: Connection, address: str
) -> None:
    """Exit 4, and after the statements of the messages it can; a reader is proposed no right to write."""
    flags = ("--schema", "app", *(("--timeout", "0") if command == "wait" else ()))
    ledgergate.write("a", "create table a ()")
    assert ledgergate("up", "--schema", "app").returncode == 0
    await connection.execute(f'revoke usage on schema app from "{urlsplit(address).username}"')
    granted = []
    for _ in range(3):
        done = ledgergate(command, *flags, DATABASE_URL=address)
        if done.returncode == 0:
            break
        assert done.returncode == 4
        (statement,) = GRANT.findall(done.stderr)
        granted.append(statement.partition(" to ")[0])
        await connection.execute(statement)
    assert granted == ["grant usage on schema app", "grant select on table app.ledgergate_migrations"]


async def test_the_ledger_cannot_be_made(ledgergate: Ledgergate, connection: Connection, address: str) -> None:
    """Exit 4: neither in a schema without the right to create, nor in one that is missing."""
    ledgergate.write("a", "select 1")
    for schema, statement in (("app", "grant create on schema app"), ("new", "grant create on database")):
        done = ledgergate("up", "--schema", schema, DATABASE_URL=address)
        assert done.returncode == 4
        (found,) = GRANT.findall(done.stderr)
        assert found.startswith(statement)
        await connection.execute(found)
        assert ledgergate("up", "--schema", schema, DATABASE_URL=address).returncode == 0


async def test_the_ledger_cannot_be_written(ledgergate: Ledgergate, connection: Connection, address: str) -> None:
    """Exit 1: the migration's row is refused, so it is rolled back."""
    ledgergate.write("a", "select 1")
    assert ledgergate("up").returncode == 0
    await connection.execute(f'grant select on ledgergate_migrations to "{urlsplit(address).username}"')
    ledgergate.write("b", "create table b ()")
    done = ledgergate("up", DATABASE_URL=address)
    assert done.returncode == 1
    (statement,) = GRANT.findall(done.stderr)
    assert statement.startswith("grant insert, update, delete on table public.ledgergate_migrations")
    await connection.execute(statement)
    assert ledgergate("up", DATABASE_URL=address).returncode == 0


async def test_the_database_refuses_the_role(ledgergate: Ledgergate, connection: Connection, address: str) -> None:
    """Exit 4, with the grant of CONNECT."""
    name = await connection.fetchval("select current_database()")
    await connection.execute(f'revoke connect on database "{name}" from public')
    ledgergate.write("a", "select 1")
    done = ledgergate("up", "--connect-timeout", "2", DATABASE_URL=address)
    assert done.returncode == 4
    (statement,) = GRANT.findall(done.stderr)
    await connection.execute(statement)
    assert ledgergate("up", DATABASE_URL=address).returncode == 0
