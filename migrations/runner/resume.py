"""Where a migration that was interrupted outside a transaction can be resumed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.core.revision import spellings
from migrations.runner import invalid_indexes, non_transactional
from migrations.runner.section import MigrationFailed, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from migrations.core.ledger import Record
    from migrations.core.migration import Migration
    from migrations.postgres.session import Session
    from migrations.runner.ledger_writer import LedgerWriter
    from migrations.runner.splitter import SessionObject, Statement


_USES_SEQUENCE = re.compile(r"\b(currval|lastval)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The point at which a migration can be resumed.

    Attributes:
        revision: The migration.
        done: How many of its statements are completed.
    """

    revision: str
    done: int


async def find_resume_point(
    session: Session, writer: LedgerWriter, migration: Migration, record: Record
) -> ResumePoint | str:
    """Return where a dirty migration can be resumed, or the reason why it cannot.

    To be called under the lock, which proves that the interrupted run has ended. The ledger has the number of committed
    statements, and the statement that had begun outside a transaction. Whether that one was completed is decided by its
    effect, where that can be seen.

    Raises:
        DatabaseError: The connection was lost, or the ledger cannot be read.
    """
    obstacle = _find_obstacle(migration, record)
    if obstacle is not None:
        return obstacle
    section = Section(migration, migration.up, "up")
    try:
        statements = non_transactional.split_section(section)
    except MigrationFailed as error:
        return str(error)
    row = (await session.fetch(writer.statement("stopped"), spellings(migration.revision)))[0]
    # The number of statements differs where another version of the parser splits the file in another way.
    if row["statements_done"] is None or row["statements_total"] != len(statements):
        return "its progress is not recorded"
    return await _resume_point(session, section, statements, row)


def _find_obstacle(migration: Migration, record: Record) -> str | None:
    """Return the reason against resuming that needs no query; None where there is none."""
    if record.is_down:
        return "it was being undone"
    if migration.up.transactional or migration.up.sql is None:
        return "it is not SQL outside a transaction, so its progress is unknown"
    if not (record.checksum == migration.checksum or migration.differs_by_line_ends(record.checksum)):
        return f"{migration.path} has changed since: expected SHA-256 {record.checksum}, got {migration.checksum}"
    return None


async def _resume_point(
    session: Session, section: Section, statements: Sequence[Statement], row: Mapping[str, int | None]
) -> ResumePoint | str:
    done, begun = row["statements_done"] or 0, row["statement_begun"]
    if begun is None:
        return find_lost_state(section, statements, done) or ResumePoint(section.migration.revision, done)
    statement = statements[begun - 1]
    completed = await invalid_indexes.has_completed(session, statement)
    if completed is None:
        location = f"{section.migration.path}:{section.line(statement.offset)}"
        return f"its statement {begun} of {len(statements)} ({location}) began, and whether it was completed is unknown"
    done = begun if completed else done
    return find_lost_state(section, statements, done) or ResumePoint(section.migration.revision, done)


def find_lost_state(section: Section, statements: Sequence[Statement], done: int) -> str | None:
    """Return the reason against resuming after `done` statements in another session; None where there is none.

    What a completed statement made in its session, such as a temporary table, ended with that session. Without it the
    statements that follow could mean something else, for instance another table of the same name.
    """
    if done == len(statements):
        return None
    made: dict[SessionObject, Statement] = {}
    for statement in statements[:done]:
        for removed in statement.removes:
            made = {
                at: by
                for at, by in made.items()
                if removed.kind not in {"", at.kind} or removed.name not in {"", at.name}
            }
        made |= dict.fromkeys(statement.makes, statement)
    for at, statement in made.items():
        location = f"{section.migration.path}:{section.line(statement.offset)}"
        return f"what follows may need the {at} that {location} made, which has ended with its session"
    for statement in statements[done:] if done else ():
        if _USES_SEQUENCE.search(statement.text):
            location = f"{section.migration.path}:{section.line(statement.offset)}"
            return f"{location} needs the value that a sequence had in the session of the statements before it"
    return None
