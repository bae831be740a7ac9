"""The advisory lock of a ledger as SQL of the session that holds it. `advisory_lock` acquires and releases it."""

from __future__ import annotations

from migrations.sql.statements import bind, load

_SQL = load("held_lock")


class HeldLock:
    """A ledger's lock as the session that acquired it sees it.

    SQL that a migration runs can release it: pg_advisory_unlock_all and DISCARD ALL release every session-level lock.

    Args:
        key: Its key.
        since: Second key of the companion lock.
    """

    def __init__(self, key: int, since: int) -> None:
        self._literals = {"key": f"({key})", "companion": f"({companion_key(key)})", "since": f"({since})"}
        # Every migration sends these, so they are made once.
        self.is_held = bind(_SQL["is_held"], **self._literals)
        """An SQL expression: whether the session that evaluates it holds the lock."""
        self.unlock_others = bind(_SQL["unlock_others"], is_held=self.is_held, **self._literals)
        """A statement that releases all other session-level advisory locks of the session."""
        self.unlock_others_when_held = bind(_SQL["unlock_others_when_held"], **self._literals)
        """The same, where a statement before it in the same message fails when the lock is not held."""

    @property
    def reacquire(self) -> str:
        """A statement that tries once to acquire the lock again, and returns whether that succeeded."""
        return bind(_SQL["reacquire"], **self._literals)


def companion_key(key: int) -> int:
    """Return the first key of the companion lock: the lower 32 bits of the lock's key, signed."""
    low = key & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low
