"""Ending the sessions that a killed run of a wrapped tool has left on the server.

A tool that is killed by SIGKILL in the middle of a statement leaves its session behind: the server completes the
statement before it notices that the client is gone. Our lock is free long before that. So the sessions of a wrapped
tool carry a mark in their `application_name`, and the next run that acquires the lock ends those with the mark: the
lock proves that their process has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations.sql.statements import load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from migrations.postgres.session import Session

_SQL = load("orphans")
_PROGRAM = "ledgergate-exec"
_VARIABLE = "PGAPPNAME"


def session_mark(key: int) -> str:
    """Return the prefix of the `application_name` of a wrapped tool's sessions, for the lock of this key."""
    return f"{_PROGRAM} {key & (1 << 64) - 1:016x}"


def marked_environment(environment: Mapping[str, str], key: int, dialect: str) -> dict[str, str]:
    """Return the environment with which a tool's sessions carry the mark; a PGAPPNAME that is set takes precedence.

    Source: https://www.postgresql.org/docs/current/libpq-envars.html; drivers without libpq read the variable too
    """
    return {_VARIABLE: f"{session_mark(key)} {dialect}", **environment}


async def terminate_orphans(session: Session, key: int) -> Sequence[str]:
    """Ask the server to end the sessions with the mark, and return those that are still there.

    To be called under the lock, until none is left.

    Args:
        session: The session that holds the lock.
        key: Key of the lock.

    Raises:
        DatabaseError: The connection was lost, or the query failed.
    """
    return [
        f"the end of backend {row['pid']}, which a killed run has left"
        for row in await session.fetch(_SQL["end"], session_mark(key))
    ]
