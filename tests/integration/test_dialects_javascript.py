"""Tools from npm, each with its own ledger: what the tool has applied is what the reader finds applied."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from migrations.core.ledger import State
from migrations.core.snapshot import ActiveMigration, RowLock
from migrations.dialects.catalogue import find_dialect
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.reader.activity import find_active_migration, read_row_lock
from migrations.reader.reader import LedgerReader, LedgerSource, locate_ledger
from testbed.tools import driver
from testbed.tools.reading import PATIENCE
from testbed.tools.story import MIGRATIONS, Story, Write

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from migrations.dialects.detection import Location

    Connection = asyncpg.Connection[asyncpg.Record]

STAMP = 1700000000000
"""The time of the first migration in milliseconds, for tools whose names begin with a time."""


def _knex(directory: Path) -> list[str]:
    text = "exports.up = (k) => k.raw(`{}`);\nexports.down = (k) => k.raw(`{}`);\n"
    return [_write(directory / f"{name}.js", text.format(up, down)) for name, up, down in MIGRATIONS]


def _umzug(directory: Path) -> list[str]:
    run = "({{context}}) => context.sequelize.query(`{}`)"
    text = f"exports.up = {run};\nexports.down = {run};\n"
    return [_write(directory / f"{name}.js", text.format(up, down)) for name, up, down in MIGRATIONS]


def _node_pg_migrate(directory: Path) -> list[str]:
    text = "-- Up Migration\n{};\n-- Down Migration\n{};\n"
    names = (f"{STAMP + number}_{name}.sql" for number, (name, _, _) in enumerate(MIGRATIONS))
    return [_write(directory / name, text.format(*sql)) for name, (_, *sql) in zip(names, MIGRATIONS, strict=True)]


def _typeorm(directory: Path) -> list[str]:
    run = "async {}(q) {{{{ await q.query(`{}`); }}}}"
    text = f"exports.S = class {{0}} {{{{ {run.format('up', '{1}')} {run.format('down', '{2}')} }}}};\n"
    names = []
    for number, (_, up, down) in enumerate(MIGRATIONS):
        # A class whose name ends in a digit before the 13 that count.
        stamp = f"Step{number}{STAMP + number}"
        names.append(_write(directory / f"{STAMP + number}-Step{number}.js", text.format(stamp, up, down)))
    return names


def _drizzle(directory: Path) -> list[str]:
    entries = []
    for number, (name, up, _) in enumerate(MIGRATIONS):
        _write(directory / f"{name}.sql", up)
        entries.append({"idx": number, "version": "7", "when": STAMP + number, "tag": name, "breakpoints": True})
    (directory / "meta").mkdir()
    _write(
        directory / "meta" / "_journal.json", json.dumps({"version": "7", "dialect": "postgresql", "entries": entries})
    )
    return [str(entry["when"]) for entry in entries]


def _write(path: Path, text: str) -> str:
    path.write_text(text)
    return path.name


@pytest.mark.parametrize(
    ("name", "write", "reverts", "together"),
    [
        ("knex", _knex, True, True),
        ("node-pg-migrate", _node_pg_migrate, True, False),
        ("umzug", _umzug, True, False),
        ("typeorm", _typeorm, True, False),
        ("drizzle", _drizzle, False, True),
    ],
)
async def test_a_tools_ledger_is_read_as_the_tool_reads_it(
    name: str, write: Write, reverts: bool, together: bool, tmp_path: Path, database: str
) -> None:
    """After some, after all, after an undo and after a failure, the ledger has what the tool applied and is clean."""
    (tmp_path / "migrations").mkdir()
    files = write(tmp_path / "migrations")
    with driver.javascript(name, tmp_path, database) as tool:
        await Story(name, tool, files, database).tell(reverts=reverts, together=together)


def _prisma(directory: Path) -> list[str]:
    for name, up, _ in MIGRATIONS:
        (directory / name).mkdir()
        _write(directory / name / "migration.sql", f"{up};\n")
    return [name for name, _, _ in MIGRATIONS]


async def test_prisma_records_a_failure(tmp_path: Path, database: str, connection: Connection) -> None:
    """A migration that failed is dirty, running while the engine holds its lock, and applied once it is resolved."""
    (tmp_path / "migrations").mkdir()
    files = _prisma(tmp_path / "migrations")
    await connection.execute("set application_name = 'migrating'")
    source = LedgerSource(Address.from_url(database), find_dialect("prisma"))
    session = await connect(source.address, timeout=10, application_name="test")
    reader = LedgerReader(session, source)
    with driver.javascript("prisma", tmp_path, database) as tool:
        await Story("prisma", tool, files, database).tell(reverts=False, dirty=State.FAILED)
        dirty = (await reader.read(limit=PATIENCE)).dirty
        assert dirty is not None
        assert "division by zero" in (dirty.error or "")
        await connection.execute("select pg_advisory_lock(72707369)")
        await _is(reader, files[3], State.RUNNING)
        assert (await find_active_migration(session, location_of(reader))) == ActiveMigration("migrating")
        await connection.execute("select pg_advisory_unlock(72707369)")
        await _is(reader, files[3], State.FAILED)
        # What `prisma migrate resolve --rolled-back` writes; then the mended migration is a row of its own.
        await connection.execute("update _prisma_migrations set rolled_back_at = now() where finished_at is null")
        assert (await reader.read(limit=PATIENCE)).dirty is None
        _write(tmp_path / "migrations" / files[3] / "migration.sql", "select 1;\n")
        answer = tool("all")
    assert answer.applied == files
    ledger = await reader.read(limit=PATIENCE)
    assert list(ledger.applied) == files
    assert ledger.dirty is None
    await session.close()


async def _is(reader: LedgerReader, name: str, state: State) -> None:
    """Read until the record has this state: a dirty ledger is read again although no row has changed."""
    dirty = (await reader.read(limit=PATIENCE)).dirty
    assert dirty is not None
    assert (dirty.revision, dirty.state) == (name, state)


def location_of(reader: LedgerReader) -> Location:
    """Return where the reader found the ledger."""
    assert reader.location is not None
    return reader.location


async def test_the_lock_row_of_knex_is_read_and_freed(tmp_path: Path, database: str, connection: Connection) -> None:
    """A killed run leaves `is_locked = 1`: the reader finds it, and Knex runs again after the dialect's statement."""
    (tmp_path / "migrations").mkdir()
    _knex(tmp_path / "migrations")
    source = LedgerSource(Address.from_url(database), find_dialect("knex"))
    session = await connect(source.address, timeout=10, application_name="test")
    assert await read_row_lock(session, await locate_ledger(session, source, limit=PATIENCE)) is None
    with driver.javascript("knex", tmp_path, database) as tool:
        tool("to", count=1)
        location = await locate_ledger(session, source, limit=PATIENCE)
        assert await read_row_lock(session, location) is None
        await connection.execute("update knex_migrations_lock set is_locked = 1")
        assert await read_row_lock(session, location) == RowLock()
        assert tool("to", count=2).error is not None
        await connection.execute(location.dialect.unlock_statement(location.table) or "")
        assert await read_row_lock(session, location) is None
        assert tool("to", count=2).error is None
    await session.close()
