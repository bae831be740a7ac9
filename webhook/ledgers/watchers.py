"""One watcher for each distinct ledger, however many gates name it."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from functools import partial

from migrations.core.snapshot import Fault
from migrations.reader.reader import LedgerSource
from migrations.reader.watcher import LedgerWatcher
from webhook.kube.reflector import Key
from webhook.telemetry import isolated, log_event


class LedgerWatchers:
    """Watchers by source; each runs for as long as a gate uses it.

    Args:
        group: where the watchers run.
        on_change: called with the key of each gate whose ledger has changed.
        on_read: called with the seconds that each read took.
        application_name: shown in the databases' lists of sessions.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        on_change: Callable[[Key], None],
        on_read: Callable[[float], None],
        application_name: str,
    ) -> None:
        self._group = group
        self._on_read = on_read
        self._on_change = on_change
        self._application_name = application_name
        self._watchers: dict[LedgerSource, tuple[LedgerWatcher, asyncio.Task[None]]] = {}
        self._users: defaultdict[LedgerSource, set[Key]] = defaultdict(set)

    def join(self, source: LedgerSource, gate: Key) -> LedgerWatcher:
        """Return the source's watcher, and start it if this gate is its first."""
        self._users[source].add(gate)
        if source not in self._watchers:
            watcher = LedgerWatcher(
                source,
                on_change=lambda _: self._notify(source),
                on_read=self._on_read,
                on_fault=partial(self._log, source),
                application_name=self._application_name,
            )
            self._watchers[source] = watcher, self._group.create_task(watcher.run())
        return self._watchers[source][0]

    def leave(self, source: LedgerSource, gate: Key) -> None:
        """Remove a gate from the source's users, and stop the watcher if it was the last."""
        self._users[source].discard(gate)
        if not self._users[source]:
            del self._users[source]
            self._watchers.pop(source)[1].cancel()

    def _log(self, source: LedgerSource, fault: Fault, error: str) -> None:
        gates = ",".join(sorted("/".join(gate) for gate in self._users[source]))
        log_event("ledger.unreadable", level=logging.WARNING, gates=gates, fault=fault, error=error)

    def _notify(self, source: LedgerSource) -> None:
        for gate in tuple(self._users.get(source, ())):
            with isolated("gate.failed", gate="/".join(gate)):
                self._on_change(gate)
