"""The ledgers that the gates of a cluster look at: one watcher for each distinct one, however many gates name it."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

from migrations.ledger import Ledger, Record, State
from migrations.reader import Source, Watcher
from migrations.reading import Fault, Reading
from webhook.gate import Gate
from webhook.reflector import Key


class Ledgers:
    """Watchers by source, each for as long as a gate needs it.

    Args:
        group: where the watchers run.
        on_change: called with the key of each gate whose ledger has changed.
        application_name: what the database's list of sessions shows.
    """

    def __init__(self, group: asyncio.TaskGroup, on_change: Callable[[Key], None], application_name: str) -> None:
        self._group = group
        self._on_change = on_change
        self._application_name = application_name
        self._watchers: dict[Source, tuple[Watcher, asyncio.Task[None]]] = {}
        self._users: defaultdict[Source, set[Key]] = defaultdict(set)

    def join(self, source: Source, gate: Key) -> Watcher:
        """Return the source's watcher, started if this gate is its first."""
        self._users[source].add(gate)
        if source not in self._watchers:
            watcher = Watcher(source, on_change=lambda _: self._tell(source), application_name=self._application_name)
            self._watchers[source] = watcher, self._group.create_task(watcher.run())
        return self._watchers[source][0]

    def leave(self, source: Source, gate: Key) -> None:
        """Let a gate go; the last one's watcher ends."""
        self._users[source].discard(gate)
        if not self._users[source]:
            del self._users[source]
            self._watchers.pop(source)[1].cancel()

    def _tell(self, source: Source) -> None:
        for gate in tuple(self._users.get(source, ())):
            self._on_change(gate)


class Line:
    """One gate's line to its ledger, which its spec and its Secret can lay anew at any moment.

    What was last known of the ledger outlives the line, but only where the new one leads to the same place: a renewed
    password changes nothing, another database starts from nothing.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.problem = ""
        self.source: Source | None = None
        self.watcher: Watcher | None = None
        seen = [Record(revision=revision, state=State.APPLIED) for revision in gate.history]
        self._known = Reading(ledger=Ledger.of(seen) if seen else None, fault=Fault.ADDRESS)
        self._place: tuple[object, ...] | None = None

    @property
    def reading(self) -> Reading:
        """What is known of the ledger now."""
        return self.watcher.reading if self.watcher is not None else self._known

    @property
    def settled(self) -> bool:
        """Whether the ledger was read, or why it cannot be is known."""
        if self.watcher is None:
            return bool(self.problem or self.gate.problems)
        return self.watcher.reading.fault is not Fault.UNREAD

    def lay(self, source: Source | None, problem: str, ledgers: Ledgers) -> None:
        """Lead the line to a source, or nowhere while there is a problem."""
        self.problem = problem
        if source == self.source:
            return
        before = self.reading
        self._known = Reading(before.ledger, before.observed_at, Fault.ADDRESS)
        old, self.source, self.watcher = self.source, source, None
        if source is not None:
            place = source.address.label, source.dialect.name, source.schema, source.table
            if self._place not in {None, place}:
                self._known = Reading(fault=Fault.ADDRESS)
            self._place = place
            self.watcher = ledgers.join(source, self.gate.key)
            if self._known.ledger is not None:
                self.watcher.seed(self._known.ledger, self._known.observed_at)
        if old is not None:
            ledgers.leave(old, self.gate.key)
