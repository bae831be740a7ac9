"""Which namespaces have opted in, by their label; and which have certainly opted out."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from webhook.api.namespace import Namespace, OptIn
from webhook.kube.errors import ClusterError, NotFound
from webhook.kube.reflector import Feed, Reflector
from webhook.telemetry import log_event

RETRY_SECONDS = 1.0


class NamespaceApi(Protocol):
    """Where namespaces are found."""

    def opted_in(self) -> Feed[Namespace]:
        """Every namespace that carries the label, whatever its value."""

    async def namespace(self, name: str) -> Namespace:
        """One namespace, as it is now."""


class NamespaceCache:
    """The namespaces' labels, as they are now.

    A watch may be late, and a pod that came after its namespace's label must not be let go for that. So an answer other
    than ENABLED is given only where the API server was asked for the namespace after the pod had been seen.

    Args:
        on_change: called with a namespace whose answer may have changed.
        clock: seconds of a clock that never jumps.
    """

    def __init__(self, actions: NamespaceApi, on_change: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._actions = actions
        self._on_change = on_change
        self._clock = clock
        self._copy = Reflector(actions.opted_in(), self._changed, on_failure=_log_failure)
        self._confirmed: dict[str, tuple[OptIn, float]] = {}
        self._asking: set[str] = set()

    async def run(self) -> None:
        """Follow the labels until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            await self._copy.run()

    def label(self, name: str) -> OptIn:
        """Return what the label says, as far as is known; ENABLED while nothing is known."""
        if not self._copy.synced:
            return OptIn.ENABLED
        found = self._copy.objects.get(("", name))
        return OptIn.OFF if found is None else OptIn.of(found)

    def admission(self, name: str, since: float) -> OptIn:
        """Return what holds for a pod that was first seen at a moment; where that is not sure, ask, and tell later."""
        if self.label(name) is OptIn.ENABLED:
            return OptIn.ENABLED
        known, asked = self._confirmed.get(name, (OptIn.ENABLED, 0.0))
        if asked > since:
            return known
        if name not in self._asking:
            self._asking.add(name)
            self._group.create_task(self._ask(name))
        return OptIn.ENABLED

    async def _ask(self, name: str) -> None:
        asked = self._clock()
        try:
            self._confirmed[name] = OptIn.of(await self._actions.namespace(name)), asked
        except NotFound:
            self._confirmed[name] = OptIn.OFF, asked
        except ClusterError as error:
            log_event("namespace.unreadable", level=logging.WARNING, namespace=name, error=str(error))
            await asyncio.sleep(RETRY_SECONDS)
        self._asking.discard(name)
        self._on_change(name)

    def _changed(self, old: Namespace | None, new: Namespace | None) -> None:
        before, after = (None if found is None else OptIn.of(found) for found in (old, new))
        found = new or old
        if found is not None and before is not after:
            self._confirmed.pop(found.metadata.name, None)
            self._on_change(found.metadata.name)


def _log_failure(failure: ClusterError | None) -> None:
    if failure is not None:
        log_event("namespaces.unreadable", level=logging.WARNING, error=str(failure))
