"""Resolution of host names, in which one tenant's slow names do not delay another tenant's.

`getaddrinfo` blocks a thread, and nothing can end it: a name whose servers do not answer keeps a thread for as long as
the resolver tries. So each name is resolved once at a time, and a tenant has few threads.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from migrations.postgres.errors import AddressRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrations.core.networks import HostPolicy

TENANT: ContextVar[str] = ContextVar("TENANT", default="")
"""The tenant for whom a name is resolved."""

THREADS = 48
"""Most threads that resolve names at once in one worker. A thread lives only while it resolves a name, and takes a
stack of `STACK_BYTES`."""
THREADS_PER_TENANT = 2
STACK_BYTES = 256 * 1024


class Names:
    """Resolves names in threads.

    Args:
        lookup: Resolves a name as `socket.getaddrinfo` does, and blocks meanwhile.
    """

    def __init__(self, lookup: Callable[..., list[Any]] = socket.getaddrinfo) -> None:
        self._lookup = lookup
        self._pending: dict[tuple[object, ...], asyncio.Future[list[Any]]] = {}
        self._busy: Counter[str] = Counter()
        self._freed = asyncio.Condition()

    async def resolve(self, *question: Any) -> list[Any]:
        """Return what `getaddrinfo` returns; concurrent calls with the same arguments share one lookup.

        A call that is cancelled does not end the lookup, whose thread goes on.

        Args:
            question: The arguments of `getaddrinfo`.

        Raises:
            OSError: The name cannot be resolved.
        """
        if question not in self._pending:
            tenant = TENANT.get()
            async with self._freed:
                await self._freed.wait_for(
                    lambda: self._busy[tenant] < THREADS_PER_TENANT and self._busy.total() < THREADS
                )
                if question not in self._pending:  # another call may have started it meanwhile
                    self._start(tenant, question)
        return await asyncio.shield(self._pending[question])

    def _start(self, tenant: str, question: tuple[Any, ...]) -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()
        # Every call may have been cancelled. Then nothing awaits the answer, and asyncio would log that its exception
        # was never retrieved; this retrieves it.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._pending[question] = answer
        self._busy[tenant] += 1

        def finish(found: list[Any] | None, error: Exception | None) -> None:
            self._busy[tenant] -= 1
            if not self._busy[tenant]:
                del self._busy[tenant]
            del self._pending[question]
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found or [])
            # Kept in an attribute, since the event loop has only a weak reference to a task.
            self._waking = loop.create_task(self._wake())

        def work() -> None:
            found, failure = None, None
            try:
                found = self._lookup(*question)
            except Exception as error:  # noqa: BLE001 - any exception is the answer
                failure = error
            try:
                loop.call_soon_threadsafe(finish, found, failure)
            except RuntimeError:
                return  # the loop has ended meanwhile

        # Daemons: the process must be able to end while a name is being resolved.
        threading.Thread(target=work, daemon=True).start()

    async def _wake(self) -> None:
        async with self._freed:
            self._freed.notify_all()


class Destinations:
    """Where one visit may connect to.

    The address is checked when the connection is opened, not when the name is resolved: between the two, the name may
    get other addresses.

    Args:
        policy: The servers that the installation allows.
    """

    def __init__(self, policy: HostPolicy) -> None:
        self._policy = policy
        self._named: set[str] = set()

    def resolved(self, host: object, found: list[Any]) -> None:
        """Note the addresses of a name that the policy allows by name."""
        if isinstance(host, str) and self._policy.allows_name(host):
            self._named.update(address[0] for *_, address in found)

    def check(self, address: object) -> None:
        """Check the address that a connection is about to be opened to.

        Raises:
            AddressRefused: The address is a Unix socket, or the policy refuses it.
        """
        if not isinstance(address, tuple):
            raise AddressRefused("the address of the database is a Unix socket of ledgergate's own pod")
        if objection := self._policy.objection(address[0], named=address[0] in self._named):
            raise AddressRefused(f"the address of the database is {objection}")


DESTINATIONS: ContextVar[Destinations | None] = ContextVar("DESTINATIONS", default=None)
"""Where the current visit may connect to; None outside of a visit."""


class ResolvingLoop(asyncio.SelectorEventLoop):
    """An event loop that resolves names by `Names`, and connects only where `DESTINATIONS` allows."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Names | None = None

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - as in asyncio
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Resolve a name, as `socket.getaddrinfo` does."""
        if self.names is None:
            self.names = Names()
        found = await self.names.resolve(host, port, family, type, proto, flags)
        if (destinations := DESTINATIONS.get()) is not None:
            destinations.resolved(host, found)
        return found

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket, where `DESTINATIONS` allows the address; asyncio calls this for every connection it opens.

        Raises:
            AddressRefused: The address is not allowed.
        """
        if (destinations := DESTINATIONS.get()) is not None:
            destinations.check(address)
        await super().sock_connect(sock, address)
