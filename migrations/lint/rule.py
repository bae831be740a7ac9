"""Rules, and violations of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LOCKING = "https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES"
OWN_MIGRATION = "-- in a migration of its own: -- migrate:up transaction:false"
"""Line of a safe way before a statement that needs a transaction of its own. For the files of another tool, the linter
replaces it with `Script.own_migration`."""
ALTER_TABLE = "https://www.postgresql.org/docs/current/sql-altertable.html"


class Level(StrEnum):
    """How much a finding matters; `--fail-on` sets the lowest level that makes `lint` exit with 2."""

    ERROR = "error"
    WARNING = "warning"
    ADVICE = "advice"


class Lock(StrEnum):
    """A table-level lock mode, as PostgreSQL names it; from the weakest to the strongest, as `is_stronger` needs it.

    Source: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
    """

    SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"
    SHARE = "SHARE"
    SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"
    EXCLUSIVE = "EXCLUSIVE"
    ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"

    def is_stronger(self, other: Lock) -> bool:
        """Return whether the mode conflicts with more modes than another one does."""
        return list(Lock).index(self) > list(Lock).index(other)

    @property
    def blocks(self) -> str:
        """What waits while another transaction holds the lock."""
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
        name: Its name in `-- lint:allow`, in the output and in docs/lint.md.
        level: How much it matters.
        summary: One sentence: what happens on a live system.
        source: The page of PostgreSQL's documentation behind it.
        lock: The lock that the statement takes, where that is the hazard.
        others: Names of the same rule in squawk and strong_migrations.
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
class Violation:
    """A rule that a statement breaks.

    Attributes:
        rule: The rule.
        message: What the statement does, with the statement's own names.
        safe: The safe way: lines of SQL with the same names, and advice in SQL comments.
        locks: The tables that the statement locks.
        lock: Mode of that lock, where it is not the rule's.
    """

    rule: Rule
    message: str
    safe: tuple[str, ...]
    locks: tuple[str, ...] = ()
    lock: Lock | None = None

    @property
    def mode(self) -> Lock | None:
        """Mode of the lock that the statement takes; None where no lock is the hazard."""
        return self.lock or (self.rule.lock if self.locks else None)
