"""Strong locks that a statement needs for an instant, and waits for behind every query."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations.lint.locks import locks
from migrations.lint.rule import LOCKING, Level, Lock, Rule, Violation

if TYPE_CHECKING:
    from migrations.lint.context import StatementContext
    from migrations.lint.parser import ParsedStatement

SHORT_LOCK = Rule(
    "short-lock",
    Level.ADVICE,
    "The statement needs its lock for an instant, but waits for it behind every query, and later queries wait behind "
    "it.",
    LOCKING,
    Lock.ACCESS_EXCLUSIVE,
    ("require-timeout-settings",),
    details=(
        "Every statement that locks an existing table against reads or writes and has no other finding with a lock: "
        "ADD COLUMN, DROP CONSTRAINT, CREATE TRIGGER, CREATE TABLE … REFERENCES, CREATE POLICY and so on; "
        "drop-index-not-concurrent and partition have the same level. `ledgergate migrate up` sets lock_timeout and "
        "tries again, so that the wait is short; where another tool runs the files and sets none, raise the level: "
        '`short-lock = "warning"` in `[lint.rules]` of ledgergate.toml.'
    ),
    safe=(
        "SET LOCAL lock_timeout = '5s';  -- and run the migration again where that was too short",
        "ALTER TABLE users ADD COLUMN age integer;",
    ),
)
RULES = (SHORT_LOCK,)


def short_lock(statement: ParsedStatement, context: StatementContext) -> Violation | None:
    """Return the violation of a statement that has no other one with a lock; None where it locks no existing table."""
    held: dict[str, Lock] = {}
    for table, mode in locks(statement.node, context.schema):
        if not context.is_new(table) and (str(table) not in held or mode.is_stronger(held[str(table)])):
            held[str(table)] = mode
    if not held:
        return None
    strongest = max(held.values(), key=list(Lock).index)
    tables = " and ".join(held)
    return Violation(
        SHORT_LOCK,
        f"waits for a lock on {tables} behind every query, and later {strongest.blocks} wait behind it",
        ("SET LOCAL lock_timeout = '5s';  -- before it; `ledgergate migrate up` sets it, and tries again",),
        tuple(held),
        strongest,
    )
