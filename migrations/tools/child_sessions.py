"""Finding which of the server's sessions belong to the command that `exec` runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.sql.statements import load
from migrations.tools import child_sockets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from migrations.postgres.session import Session

_SQL = load("exec_mark")


@dataclass(frozen=True, slots=True)
class SeenSession:
    """A session that the command may have opened.

    Attributes:
        pid: Process id of its backend.
        started: When its backend started; None where our role may not see it.
        name: Its `application_name`.
        address: The client's IP address as the server sees it; None for a Unix socket, or where it cannot be seen.
        port: The client's port; -1 for a Unix socket.
        waits: Whether it waits for a lock on the lock row's table.
        in_transaction: Whether it is in a transaction block; None where our role may not see it.
        is_own: Whether it is proven to be the command's, by its name or its socket.
    """

    pid: int
    started: datetime | None
    name: str
    address: str | None
    port: int | None
    waits: bool
    in_transaction: bool | None
    is_own: bool = False


class ChildSessions:
    """The sessions that a command opens, in the database of the session that watches it.

    A session is the command's if its name has the mark that `exec` gives to it, which a pooler passes on, or if its
    client's end is a socket of the command's processes. All others are not, or nothing proves that they are.
    """

    def __init__(self, session: Session, since: datetime, session_mark: str, lock_relation: str) -> None:
        """Create the observer.

        Args:
            session: The session that watches.
            since: When the command began, by the server's clock.
            session_mark: Beginning of the names of the command's sessions.
            lock_relation: Quoted name of the lock row's table.
        """
        self._session = session
        self._since = since
        self._session_mark = session_mark
        self._lock_relation = lock_relation
        self._classified: dict[tuple[int, datetime], bool] = {}
        self.recorded: dict[int, datetime] = {}
        """Start of each session whose socket has proven it to be the command's, by the process id of its backend."""

    async def fetch(self) -> Sequence[SeenSession]:
        """Fetch the sessions that were opened since the command began, have its mark, or wait for the lock's table.

        Other sessions of `ledgergate` are left out: they read and wait, and no tool runs in them.

        Raises:
            DatabaseError: The connection was lost, or a query failed.
        """
        if self._session.in_transaction:  # within it, pg_stat_activity stays as it was first read
            await self._session.execute(_SQL["look_again"])
        rows = await self._session.fetch(_SQL["sessions"], self._since, self._session_mark, self._lock_relation)
        seen = [row for row in rows if row["waits"] or not row["name"].startswith("ledgergate ")]
        await self._classify(seen)
        return [SeenSession(**row, is_own=self._is_own(row)) for row in seen]

    async def _classify(self, rows: Sequence[Mapping[str, object]]) -> None:
        new = [row for row in rows if row["started"] is not None and _identity(row) not in self._classified]
        if not new:
            return
        endpoints = child_sockets.local_endpoints(os.getpid())
        own = (await self._session.fetch(_SQL["own_endpoint"]))[0]
        # Where our own port reaches the server unchanged, a session from this address and one of its ports is the
        # command's too, whatever address the machine has.
        ports = {port for _, port in endpoints}
        unchanged = own["port"] in ports
        for row in new:
            pid, started = _identity(row)
            known = (row["address"], row["port"]) in endpoints
            same = unchanged and row["address"] == own["address"] and row["port"] in ports
            # A session from before the command belongs to a pooler, or to another program.
            self._classified[pid, started] = started >= self._since and (known or same)
            if self._classified[pid, started]:
                self.recorded[pid] = started

    def _is_own(self, row: Mapping[str, object]) -> bool:
        named = str(row["name"]).startswith(self._session_mark)
        return named or (row["started"] is not None and self._classified.get(_identity(row), False))


def _identity(row: Mapping[str, object]) -> tuple[int, datetime]:
    return row["pid"], row["started"]  # type: ignore[return-value]  # columns of the query
