"""Keeps what a killed run has left on the server from going on beside the next one.

A tool that is killed in the middle of a statement leaves its session behind: the server finishes the statement first.
Our lock is free long before that. So the sessions of a wrapped tool carry a mark, and whoever holds the lock next ends
those that have it: no process is behind them any more.
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
    """Give what the `application_name` of a wrapped tool's sessions begins with, under the lock of this key."""
    return f"{_PROGRAM} {key & (1 << 64) - 1:016x}"


def marked_environment(environment: Mapping[str, str], key: int, dialect: str) -> dict[str, str]:
    """Give the environment of a tool whose sessions carry the mark, unless they have a name of their own.

    Source: https://www.postgresql.org/docs/current/libpq-envars.html, which drivers without libpq follow, too
    """
    return {_VARIABLE: f"{session_mark(key)} {dialect}", **environment}


async def terminate_orphans(session: Session, key: int) -> Sequence[str]:
    """End the sessions that carry the mark, and tell which are there still; to be called under the lock, until none is.

    Args:
        session: The one that holds the lock.
        key: The lock's.

    Raises:
        DatabaseError: As `failures` says.
    """
    return [
        f"backend {row['pid']}, which a killed run has left"
        for row in await session.rows(_SQL["end"], session_mark(key))
    ]
