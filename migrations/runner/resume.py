"""Tells where a migration that was stopped outside a transaction can go on: all that may have happened is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.runner import invalid_indexes, non_transactional
from migrations.runner.section import MigrationFailed, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from migrations.core.ledger import Record
    from migrations.core.migration import Migration
    from migrations.postgres.session import Session
    from migrations.runner.ledger_writer import LedgerWriter
    from migrations.runner.splitter import Statement


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """A migration outside a transaction that can go on where it stopped.

    Attributes:
        revision: Which.
        done: How many of its statements are done.
    """

    revision: str
    done: int


async def find_resume_point(
    session: Session, writer: LedgerWriter, migration: Migration, record: Record
) -> ResumePoint | str:
    """Tell where a dirty migration can go on, or why it cannot; to be called under the lock, so that no run is alive.

    Known are the statements that are committed, and of one that began alone whether its effect is there.

    Raises:
        DatabaseError: As `database` says.
    """
    obstacle = _obstacle(migration, record)
    if obstacle is not None:
        return obstacle
    section = Section(migration, migration.up, "up")
    try:
        statements = non_transactional.split_section(section)
    except MigrationFailed as error:
        return str(error)
    row = (await session.rows(writer.sql("stopped"), migration.revision))[0]
    if row["statements_done"] is None or row["statements_total"] != len(statements):
        return "how far it came is not recorded"
    return await _after_lone(session, section, statements, row)


def _obstacle(migration: Migration, record: Record) -> str | None:
    """Give the reason that is seen without a look at the database."""
    if record.is_down:
        return "it was being undone"
    if migration.up.transactional or migration.up.sql is None:
        return "it is no SQL that runs outside a transaction, so nobody knows how far it came"
    if record.checksum != migration.checksum:
        return (
            f"{migration.path} was changed since it began: expected SHA-256 {record.checksum}, got {migration.checksum}"
        )
    return None


async def _after_lone(
    session: Session, section: Section, statements: Sequence[Statement], row: Mapping[str, int | None]
) -> ResumePoint | str:
    """Go on after what is done, and after a statement that began alone only when that can be told from its effect."""
    done, begun = row["statements_done"] or 0, row["statement_begun"]
    if begun is None:
        return ResumePoint(section.migration.revision, done)
    statement = statements[begun - 1]
    ended = await invalid_indexes.has_completed(session, statement)
    if ended is None:
        where = f"{section.migration.path}:{section.line(statement.offset)}"
        return f"its statement {begun} of {len(statements)} ({where}) began, and nobody knows whether it ended"
    return ResumePoint(section.migration.revision, begun if ended else done)
