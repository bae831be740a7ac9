"""A limit that asyncpg lacks: how long a server may have the client derive a key.

In SCRAM the server names the number of iterations (RFC 5802, section 3), and asyncpg derives the key in one call of C
code, which neither a timeout nor a signal's handler interrupts: a billion iterations are some minutes of CPU time in
which the process does nothing else. So asyncpg's module gets a `hashlib` of its own, which refuses that many.
"""

from __future__ import annotations

import hashlib
from typing import Any

from asyncpg.protocol import protocol

MAX_ITERATIONS = 1_000_000
"""Maximum number of iterations; they take about half a second. PostgreSQL's default is 4,096 (`scram_iterations`)."""


class TooManyIterations(ValueError):  # noqa: N818 - says what happened
    """The server asks for a key derivation that would take too long."""


class _BoundedHashlib:
    """`hashlib` with a limit on the iterations of `pbkdf2_hmac`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(hashlib, name)

    @staticmethod
    def pbkdf2_hmac(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        """Derive a key, as `hashlib.pbkdf2_hmac` does.

        Raises:
            TooManyIterations: There are more than `MAX_ITERATIONS`.
        """
        if iterations > MAX_ITERATIONS:
            raise TooManyIterations(
                f"the server asks for {iterations:,} SCRAM iterations, expected at most {MAX_ITERATIONS:,}: lower "
                "scram_iterations on the server, and set the role's password again"
            )
        return hashlib.pbkdf2_hmac(name, password, salt, iterations)


def bound_key_derivation() -> None:
    """Make asyncpg refuse a server that asks for too many iterations; other users of hashlib are not affected."""
    protocol.hashlib = _BoundedHashlib()  # type: ignore[attr-defined]  # its own import, which no stub declares
