"""Which namespaces have opted in, by their label; and which have certainly opted out."""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from webhook.errors import ClusterError, NotFound
from webhook.objects import Metadata, Struct
from webhook.reflector import Feed, Reflector
from webhook.telemetry import event

LABEL = "ledgergate.dev/admission"
RETRY_SECONDS = 1.0


class Namespace(Struct, frozen=True):
    """A namespace, as far as its labels go."""

    metadata: Metadata = Metadata()


class Admission(StrEnum):
    """What a namespace's label ``ledgergate.dev/admission`` asks for."""

    ENABLED = "enabled"
    AUDIT = "audit"
    OFF = ""

    @classmethod
    def of(cls, namespace: Namespace) -> "Admission":
        """Read the label; any other value than ours opts nothing in, as in the webhooks' selectors."""
        value = (namespace.metadata.labels or {}).get(LABEL)
        return cls(value) if value in set(cls) else cls.OFF


class NamespaceActions(Protocol):
    """Where namespaces are found."""

    def opted_in(self) -> Feed[Namespace]:
        """Every namespace that carries the label, whatever its value."""

    async def namespace(self, name: str) -> Namespace:
        """One namespace, as it is now."""


class Namespaces:
    """The namespaces' labels, as they are now.

    A watch may be late, and a pod that came after its namespace's label must not be let go for that. So an answer other
    than ENABLED is given only where the API server was asked for the namespace after the pod had been seen.

    Args:
        on_change: called with a namespace whose answer may have changed.
        clock: seconds of a clock that never jumps.
    """

    def __init__(self, actions: NamespaceActions, on_change: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._actions = actions
        self._on_change = on_change
        self._clock = clock
        self._copy = Reflector(actions.opted_in(), self._changed, on_failure=_log_failure)
        self._confirmed: dict[str, tuple[Admission, float]] = {}
        self._asking: set[str] = set()

    async def run(self) -> None:
        """Follow the labels until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            await self._copy.run()

    def label(self, name: str) -> Admission:
        """Return what the label says, as far as is known; ENABLED while nothing is known."""
        if not self._copy.synced:
            return Admission.ENABLED
        found = self._copy.objects.get(("", name))
        return Admission.OFF if found is None else Admission.of(found)

    def admission(self, name: str, since: float) -> Admission:
        """Return what holds for a pod that was first seen at a moment; where that is not sure, ask, and tell later."""
        if self.label(name) is Admission.ENABLED:
            return Admission.ENABLED
        known, asked = self._confirmed.get(name, (Admission.ENABLED, 0.0))
        if asked > since:
            return known
        if name not in self._asking:
            self._asking.add(name)
            self._group.create_task(self._ask(name))
        return Admission.ENABLED

    async def _ask(self, name: str) -> None:
        asked = self._clock()
        try:
            self._confirmed[name] = Admission.of(await self._actions.namespace(name)), asked
        except NotFound:
            self._confirmed[name] = Admission.OFF, asked
        except ClusterError as error:
            event("namespace.unreadable", level=logging.WARNING, namespace=name, error=str(error))
            await asyncio.sleep(RETRY_SECONDS)
        self._asking.discard(name)
        self._on_change(name)

    def _changed(self, old: Namespace | None, new: Namespace | None) -> None:
        before, after = (None if found is None else Admission.of(found) for found in (old, new))
        found = new or old
        if found is not None and before is not after:
            self._confirmed.pop(found.metadata.name, None)
            self._on_change(found.metadata.name)


def _log_failure(failure: ClusterError | None) -> None:
    if failure is not None:
        event("namespaces.unreadable", level=logging.WARNING, error=str(failure))
