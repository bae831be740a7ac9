"""What a rule is, and what it says when it strikes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LOCKING = "https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES"
ALTER_TABLE = "https://www.postgresql.org/docs/current/sql-altertable.html"


class Level(StrEnum):
    """How much a finding matters; `lint` exits 2 for an error only."""

    ERROR = "error"
    WARNING = "warning"
    ADVICE = "advice"


class Lock(StrEnum):
    """A lock mode of a table, as PostgreSQL names it.

    Source: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
    """

    SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"
    SHARE = "SHARE"
    SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"
    EXCLUSIVE = "EXCLUSIVE"
    ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"

    @property
    def blocks(self) -> str:
        """What has to wait for it."""
        match self:
            case Lock.ACCESS_EXCLUSIVE:
                return "reads and writes"
            case Lock.SHARE_UPDATE_EXCLUSIVE:
                return "schema changes and VACUUM"
            case _:
                return "writes"


@dataclass(frozen=True, slots=True)
class Rule:
    """A hazard that lint knows.

    Attributes:
        name: What `-- lint:allow` and the documentation call it.
        level: How much it matters.
        summary: One sentence: what happens.
        source: Where PostgreSQL's documentation says so.
        lock: The lock that the statement takes, where that is the hazard.
        others: What squawk and strong_migrations call it.
        down: Whether it holds in a down section too: it does where the statement would fail.
        details: What docs/lint.md adds to the summary: when it does not apply, and why.
        safe: The safe way, for docs/lint.md, as lines of SQL.
    """

    name: str
    level: Level
    summary: str
    source: str
    lock: Lock | None = None
    others: tuple[str, ...] = ()
    down: bool = False
    details: str = ""
    safe: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that a statement breaks.

    Attributes:
        rule: Which.
        message: What the statement does, in its own names.
        safe: The safe way, as lines of SQL with these names, or of prose in comments.
        locks: The tables that get the rule's lock.
        lock: The mode, where the statement names it.
    """

    rule: Rule
    message: str
    safe: tuple[str, ...]
    locks: tuple[str, ...] = ()
    lock: Lock | None = None

    @property
    def mode(self) -> Lock | None:
        """The lock that it takes."""
        return self.lock or (self.rule.lock if self.locks else None)
