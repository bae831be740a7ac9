"""Which namespaces have opted in, by their labels, and which have certainly opted out."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from webhook.api.namespace import Namespace, NamespaceLabels, OptIn
from webhook.background import start
from webhook.core.near_misses import find_unknown_labels
from webhook.kube.errors import ClusterError, NotFound
from webhook.kube.reflector import Feed, Reflector
from webhook.telemetry import isolated, log_event

RETRY_SECONDS = 1.0


class NamespaceApi(Protocol):
    """Where namespaces are read and watched."""

    def opted_in(self) -> Feed[Namespace]:
        """Return the feed of the namespaces that carry the label, whatever its value."""

    async def namespace(self, name: str) -> Namespace:
        """Return one namespace, as it is now."""


class NamespaceCache:
    """The labels of the namespaces.

    The watches of pods and of namespaces have no common order: a held pod may be seen before the label that was set
    before it. Such a pod must not be released. So "not enabled" and "does not wait" are believed only where the API
    server was asked for the namespace after the pod had been seen.

    Args:
        on_change: called with a namespace for which `label`, `admission` or `waits` may now answer something else.
        clock: seconds of a clock that never jumps.
    """

    def __init__(self, api: NamespaceApi, on_change: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._api = api
        self._on_change = on_change
        self._clock = clock
        self._reflector = Reflector(api.opted_in(), self._changed, on_failure=_log_failure)
        self._confirmed: dict[str, tuple[NamespaceLabels, float]] = {}
        self._asking: set[str] = set()

    async def run(self) -> None:
        """Follow the labels until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            await self._reflector.run()

    @property
    def watch_problem(self) -> str:
        """Why the labels are not up to date; empty where they are, or have not been for a short time only."""
        return self._reflector.problem

    def label(self, name: str) -> OptIn:
        """Return what the label says, as far as the watch has shown; ENABLED before the first list."""
        if not self._reflector.synced:
            return OptIn.ENABLED
        found = self._reflector.objects.get(("", name))
        return OptIn.OFF if found is None else OptIn.of(found)

    def admission(self, name: str, since: float) -> OptIn:
        """Return the opt-in that counts for a pod.

        Where it is not certain, that is ENABLED; the API server is then asked, and `on_change` called with the answer.

        Args:
            since: when the pod was first seen, by the clock.
        """
        if self.label(name) is OptIn.ENABLED:
            return OptIn.ENABLED
        known = self._confirm(name, since)
        return OptIn.ENABLED if known is None else known.admission

    def waits(self, name: str, since: float) -> bool | None:
        """Return whether a pod that declares nothing waits for its LedgerGate.

        None where that is not certain; the API server is then asked, and `on_change` called with the answer.

        Args:
            since: when the pod was first seen, by the clock.
        """
        found = self._reflector.objects.get(("", name))
        if found is not None and NamespaceLabels.of(found) == NamespaceLabels(OptIn.ENABLED, waits=True):
            return True
        known = self._confirm(name, since)
        return None if known is None else known.waits

    def _confirm(self, name: str, since: float) -> NamespaceLabels | None:
        """Return what the API server said after that time; where it was not asked since, ask it and return None."""
        known, asked = self._confirmed.get(name, (None, 0.0))
        if asked > since:
            return known
        if name not in self._asking:
            self._asking.add(name)
            start(self._group, self._ask(name))
        return None

    async def _ask(self, name: str) -> None:
        asked = self._clock()  # before the request: the answer is at least as new as this
        try:
            self._confirmed[name] = NamespaceLabels.of(await self._api.namespace(name)), asked
        except NotFound:
            self._confirmed[name] = NamespaceLabels(), asked
        except Exception as error:  # noqa: BLE001 - ClusterError, or what is wrong with this one namespace
            log_event("namespace.unreadable", level=logging.WARNING, namespace=name, error=str(error))
            await asyncio.sleep(RETRY_SECONDS)  # then `on_change` makes the caller ask again
        self._asking.discard(name)
        with isolated("namespace.failed", namespace=name):
            self._on_change(name)

    def _changed(self, old: Namespace | None, new: Namespace | None) -> None:
        before, after = (None if found is None else NamespaceLabels.of(found) for found in (old, new))
        found = new or old
        if new is not None and (old is None or old.metadata.labels != new.metadata.labels):
            for problem in find_unknown_labels(new):
                log_event(
                    "namespace.label_unknown", level=logging.WARNING, namespace=new.metadata.name, problem=problem
                )
        if found is not None and before != after:
            self._confirmed.pop(found.metadata.name, None)
            self._on_change(found.metadata.name)


def _log_failure(failure: ClusterError | None) -> None:
    if failure is not None:
        log_event("namespaces.unreadable", level=logging.WARNING, error=str(failure))
