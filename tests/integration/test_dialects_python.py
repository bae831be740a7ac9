"""Tools from PyPI, each with its own ledger: what the tool has applied is what the reader finds applied."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from migrations.core.ledger import Ledger, Position
from migrations.dialects.catalogue import find_dialect
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.reader.activity import read_row_lock
from migrations.reader.reader import LedgerReader, LedgerSource, locate_ledger
from testbed.tools import driver
from testbed.tools.reading import PATIENCE
from testbed.tools.story import MIGRATIONS, Story, Write

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from migrations.postgres.session import Session

    Connection = asyncpg.Connection[asyncpg.Record]


def _django(project: Path) -> list[str]:
    directory = project / "shop" / "migrations"
    directory.mkdir(parents=True)
    for package in (project / "shop", directory):
        (package / "__init__.py").touch()
    text = dedent("""\
        from django.db import migrations


        class Migration(migrations.Migration):
            dependencies = [{}]
            operations = [migrations.RunSQL("{}", "{}")]
        """)
    before, names = "", []
    for number, (_, up, down) in enumerate(MIGRATIONS, 1):
        name = f"{number:04}_step"
        (directory / f"{name}.py").write_text(text.format(before, up, down))
        before = f'("shop", "{name}")'
        names.append(f"shop.{name}")
    return names


def _yoyo(project: Path) -> list[str]:
    (project / "migrations").mkdir()
    for name, up, down in MIGRATIONS:
        (project / "migrations" / f"{name}.py").write_text(
            f'from yoyo import step\n\nsteps = [step("{up}", "{down}")]\n'
        )
    return [f"{name}.py" for name, _, _ in MIGRATIONS]


@pytest.mark.parametrize(("name", "write"), [("django", _django), ("yoyo", _yoyo)])
async def test_a_tools_ledger_is_read_as_the_tool_reads_it(
    name: str, write: Write, tmp_path: Path, database: str
) -> None:
    """After some, after all, after an undo and after a failure, the ledger has what the tool applied and is clean."""
    files = write(tmp_path)
    with driver.python(name, tmp_path, database) as tool:
        await Story(name, tool, files, database).tell()


async def test_the_lock_of_yoyo_outlives_a_killed_process(
    tmp_path: Path, database: str, connection: Connection
) -> None:
    """The row has the process id and a time; Yoyo runs again after the dialect's statement has freed the lock."""
    source = LedgerSource(Address.from_url(database), find_dialect("yoyo"))
    session = await connect(source.address, timeout=10, application_name="test")
    files = _yoyo(tmp_path)
    with driver.python("yoyo", tmp_path, database) as tool:
        tool("to", count=1)
        location = await locate_ledger(session, source, limit=PATIENCE)
        assert await read_row_lock(session, location) is None
        await connection.execute("insert into yoyo_lock (locked, ctime, pid) values (1, '2026-01-26 12:00', 4711)")
        found = await read_row_lock(session, location)
        assert found is not None
        assert found.holder == "process 4711"
        assert str(found.since) == "2026-01-26 12:00:00+00:00"
        clear = location.dialect.unlock_statement(location.table)
        assert clear is not None
        await connection.execute(clear)
        assert await read_row_lock(session, location) is None
        assert len(tool("to", count=2).applied) == 2
    assert len(files) == 4
    await session.close()


def _alembic(project: Path) -> list[str]:
    """Write two branches after the second revision, and a fifth revision that merges them."""
    (project / "migrations" / "versions").mkdir(parents=True)
    (project / "migrations" / "env.py").write_text(
        dedent("""\
            import os

            from alembic import context
            from sqlalchemy import create_engine

            with create_engine(os.environ["SQLALCHEMY_URL"]).connect() as connection:
                context.configure(connection=connection, transaction_per_migration=True)
                with context.begin_transaction():
                    context.run_migrations()
            """)
    )
    text = 'from alembic import op\n\nrevision, down_revision = "{}", {!r}\n\n\ndef upgrade():\n    op.execute("{}")\n'
    text += '\n\ndef downgrade():\n    op.execute("select 1")\n'
    ancestry: dict[str, str | tuple[str, ...] | None] = {
        "f000": None,
        "0aaa": "f000",
        "beef": "0aaa",
        "cafe": "0aaa",
        "9999": ("beef", "cafe"),
        "bad0": "9999",
    }
    for revision, before in ancestry.items():
        sql = "select 1/0" if revision == "bad0" else "select 1"
        (project / "migrations" / "versions" / f"{revision}.py").write_text(text.format(revision, before, sql))
    return list(ancestry)


async def test_heads_of_alembic_are_read_and_kept(tmp_path: Path, database: str, session: Session) -> None:
    """One head, two branches, their merge, a failure, a downgrade: exactly the heads that were read are applied."""
    _alembic(tmp_path)
    source = LedgerSource(Address.from_url(database), find_dialect("alembic"))
    reader, ledger = LedgerReader(session, source), find_dialect("alembic").parse_ledger([])
    assert await reader.read(limit=PATIENCE) == ledger

    async def after(act: str, **arguments: object) -> Ledger:
        answer = tool(act, **arguments)
        read = await reader.read(limit=PATIENCE)
        assert list(read.applied) == answer.applied
        assert (answer.error is None) is (act != "all")
        assert (
            await locate_ledger(session, LedgerSource(source.address, find_dialect("auto")), limit=PATIENCE)
        ).dialect is find_dialect("alembic")
        return read.with_former_heads(ledger.applied)

    with driver.python("alembic", tmp_path, database) as tool:
        ledger = await after("upgrade", to="f000")
        assert ledger.position_for("f000") is Position.AT_HEAD
        ledger = await after("upgrade", to="0aaa")
        assert ledger.position_for("f000") is Position.AHEAD
        assert ledger.position_for("beef") is Position.UNKNOWN
        assert ledger.position_for("beef", {"f000", "0aaa"}) is Position.BEHIND
        ledger = await after("upgrade", to="beef")
        assert ledger.position_for("cafe", {"f000", "0aaa"}) is Position.PRESUMED_AHEAD
        ledger = await after("upgrade", to="cafe")
        assert [ledger.position_for(name) for name in ("beef", "cafe")] == [Position.AT_HEAD, Position.AT_HEAD]
        assert ledger.position_for("0aaa") is Position.AHEAD
        assert ledger.position_for("9999", {"f000", "0aaa", "beef", "cafe"}) is Position.BEHIND
        ledger = await after("all")
        assert ledger.applied == ("f000", "0aaa", "beef", "cafe", "9999")
        assert ledger.dirty is None
        ledger = await after("downgrade", to="beef")
        assert ledger.position_for("9999") is Position.UNKNOWN
        assert ledger.applied == ("f000", "0aaa", "beef", "cafe")
        ledger = await after("downgrade", to="base")
        assert ledger.applied == ()
