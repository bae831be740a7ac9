"""The tools of npm, each at its own ledger: what they say is applied is what we read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.tools import driver
from tests.tools.story import MIGRATIONS, Story, Write

if TYPE_CHECKING:
    from pathlib import Path

STAMP = 1700000000000
"""The time of the first migration in milliseconds, for the tools that name migrations by one."""


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
    """Some, all, one taken back, one that fails: each time what the tool says is applied, and nothing is dirty."""
    (tmp_path / "migrations").mkdir()
    files = write(tmp_path / "migrations")
    with driver.javascript(name, tmp_path, database) as tool:
        await Story(name, tool, files, database).tell(reverts=reverts, together=together)
