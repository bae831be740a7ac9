"""Release a contract migration when no living pod needs the old schema, and keep such pods out while it runs.

What happens in which order, and why, is described in :mod:`webhook.core.contract_plan`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from webhook.api.objects import Pod
from webhook.background import start
from webhook.cache.gates import GateCache
from webhook.controller.contract_events import ContractEvents
from webhook.controller.contract_observer import ContractObserver
from webhook.controller.work_queue import PAUSE_FACTOR, WorkQueue
from webhook.core import contract_plan as plan
from webhook.core.contract_plan import Candidate, ContractState, NextStep
from webhook.core.contract_state import ContractStep
from webhook.core.expectation import ImageView
from webhook.core.gate import Gate
from webhook.core.selector import Selector
from webhook.kube.errors import ClusterError
from webhook.kube.reflector import Feed, Key, Reflector
from webhook.ledgers.registry import LedgerRegistry
from webhook.telemetry import Telemetry, isolated, log_event

REACTION_SECONDS = 0.02
"""Between two times that one gate is looked at, however many of its pods change."""
TICK_SECONDS = 0.5
"""Between two looks at a gate under which a contract migration waits or runs, without any change; and between two
writes of how many pods it waits for."""
WORKERS = 4
MAX_STEPS = 8
"""Steps of one gate in a row, before others get a turn."""


class ContractApi(Protocol):
    """Where the pods under a gate are listed and watched, and its status is written."""

    def selected_pods(self, namespace: str, selector: Selector) -> Feed[Pod]:
        """Return the feed of a namespace's pods that a selector matches."""

    async def patch_gate_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Merge a LedgerGate's status."""


@dataclass(slots=True)
class _Active:
    """A gate under which a contract migration waits or runs.

    Args:
        watch: the task that keeps `pods` up to date.
        written: both fields as they are in the gate's status; None where that is not known.
        written_at: when that was written, in seconds of the monotonic clock.
        oldest: the oldest revision that living pods expect.
        refusing: pods may have been refused since `on_taken_back` was called last.
        spent: seconds of CPU time since the gate was looked at first in this turn.
    """

    feed: Feed[Pod]
    selector: Selector
    pods: Reflector[Pod]
    watch: asyncio.Task[None]
    state: ContractState = field(default_factory=ContractState)
    written: dict[str, Any] | None = None
    written_at: float = 0.0
    oldest: str = ""
    refusing: bool = False
    spent: float = 0.0


class ContractReconciler:
    """Decides when a migrator with a contract migration is released.

    Watches the pods under a gate only while such a migrator is held or runs; at rest it costs nothing. Writes
    ``status.contractWaiting`` and ``status.contracting``, and Events.

    Args:
        images: what is known of the pods' images.
        held: the held pods of a namespace.
        releasing: whether the request that releases the pod of this uid may be on its way.
        rejudge: judges the held pods of a namespace anew.
        on_taken_back: called with a namespace in which pods that were refused may start again.
        now: the clock, aware.
        monotonic: seconds of the monotonic clock.
    """

    def __init__(
        self,
        api: ContractApi,
        gates: GateCache,
        ledgers: LedgerRegistry,
        telemetry: Telemetry,
        events: ContractEvents,
        *,
        images: ImageView,
        held: Callable[[str], Iterable[Pod]],
        releasing: Callable[[str], bool],
        rejudge: Callable[[str], None],
        on_taken_back: Callable[[str], None],
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._api = api
        self._gates = gates
        self._ledgers = ledgers
        self._observer = ContractObserver(gates, ledgers, images=images, held=held, releasing=releasing, now=now)
        self._telemetry = telemetry
        self._events = events
        self._rejudge = rejudge
        self._on_taken_back = on_taken_back
        self._now = now
        self._monotonic = monotonic
        self._active: dict[Key, _Active] = {}
        self._queue = WorkQueue(
            self._reconcile_isolated, interval=REACTION_SECONDS, soon=REACTION_SECONDS, workers=WORKERS
        )

    def view(self, gate: Gate) -> Gate:
        """Return a gate with what this process knows of its contract migration, which its status may not show yet."""
        active = self._active.get(gate.key)
        if active is None:
            return gate
        state = active.state
        return replace(gate, contracting=state.contracting, contract_waiting=state.waiting, cleared=state.cleared)

    def is_active(self, gate: Key) -> bool:
        """Return whether a contract migration waits or runs under a gate."""
        return gate in self._active

    def migrator_held(self, gate: Key) -> None:
        """Enqueue a gate that holds a migrator which brings a contract migration."""
        self._queue.add(gate)

    def changed(self, gate: Key) -> None:
        """Enqueue a gate of which something has changed, if a contract migration waits or runs under it."""
        if gate in self._active:
            self._queue.add(gate)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self._queue.run())
            await self._gates.wait_synced()
            for key in self._gates.keys:
                gate = self._gates.gate(key)
                if gate is not None and (gate.contracting or gate.contract_waiting):
                    self._queue.add(key)  # an earlier leader has written it; this one goes on from there
            while True:
                await asyncio.sleep(TICK_SECONDS)
                for key in self._active:
                    self._queue.add(key)

    async def _reconcile_isolated(self, key: Key) -> float:
        """Look at one gate, and return the seconds until that may be done again."""
        with isolated("contract.failed", gate="/".join(key)):
            await self._reconcile(key)
        active = self._active.get(key)
        return active.spent * PAUSE_FACTOR if active else 0.0

    async def _reconcile(self, key: Key) -> None:
        gate, active = self._gates.gate(key), self._active.get(key)
        if gate is None:
            self._stop(key)
            return
        if active is not None and active.selector != gate.selector:
            self._watch(gate, active.state, refusing=active.refusing)
        elif active is None:
            if gate.contracting is None and gate.contract_waiting is None and not self._observer.migrators(gate):
                return
            state = ContractState(contracting=gate.contracting, waiting=gate.contract_waiting)
            self._watch(gate, state, refusing=gate.contracting is not None)
        active = self._active[key]
        active.spent = 0.0
        if not active.pods.synced or not self._ledgers.may_write_status(key):
            return
        for _ in range(MAX_STEPS):
            if not await self._step(gate, active):
                return

    async def _step(self, gate: Gate, active: _Active) -> bool:
        """Take one step, and return whether another may follow at once."""
        began = time.thread_time()
        facts = self._observer.facts(gate, active.state, active.pods.objects, self._monotonic())
        active.spent += time.thread_time() - began
        candidate = facts.candidate
        active.oldest = candidate.living.oldest if candidate else ""
        self._telemetry.contract_waiting.labels(*gate.key).set(candidate.living.needed if candidate else 0)
        active.state = plan.noticed_end(active.state, facts.migrator, self._now())
        match plan.next_step(active.state, facts):
            case NextStep.ANNOUNCE if candidate is not None:
                return await self._announce(gate, active, candidate)
            case NextStep.BEGIN:
                return await self._begin(gate, active, candidate)
            case NextStep.CONFIRM if active.state.contracting is not None:
                return await self._confirm(gate, active, active.state.contracting)
            case NextStep.TAKE_BACK:
                self._take_back(gate, active)
            case NextStep.WITHDRAW:
                active.state = replace(active.state, waiting=None, announced_at=None)
            case NextStep.SETTLE:
                asyncio.get_running_loop().call_later(plan.SETTLE_SECONDS / 10, self.changed, gate.key)
        if await self._write(gate, active):
            self._stop_if_idle(gate, active)
        return False

    def _stop_if_idle(self, gate: Gate, active: _Active) -> None:
        """Stop watching when nothing waits or runs, and the cached gate shows so; until then `view` corrects it."""
        cached = self._gates.gate(gate.key)
        if active.state.contracting is not None or active.state.waiting is not None:
            return
        if cached is not None and (cached.contracting is not None or cached.contract_waiting is not None):
            return
        if not self._observer.migrators(gate):
            self._stop(gate.key)
            self._rejudge(gate.namespace)
            self._on_taken_back(gate.namespace)

    async def _announce(self, gate: Gate, active: _Active, candidate: Candidate) -> bool:
        before = active.state
        active.state = plan.announced(before, candidate)
        first = active.state.announced_at is None
        if not first and self._monotonic() - active.written_at < TICK_SECONDS:
            active.state = before  # the count may wait for the next tick
            return False
        if not await self._write(gate, active):
            return False
        if first:
            # `SETTLE_SECONDS` begin with the write: admission cannot know of the announcement before.
            active.state = replace(active.state, announced_at=self._monotonic())
            self._events.waits(gate, active.pods.objects.get((gate.namespace, candidate.step.pod)), candidate)
        return first

    async def _begin(self, gate: Gate, active: _Active, candidate: Candidate | None) -> bool:
        step = active.state.contracting
        if step is None:
            if candidate is None:
                return False
            step = replace(candidate.step, since=_timestamp(self._now()))
            # From here on no older pod is released: `view` shows it.
            active.state, active.refusing = plan.begun(step), True
        if not await self._write(gate, active):
            return False
        active.state = replace(active.state, written=True)
        return True

    async def _confirm(self, gate: Gate, active: _Active, step: ContractStep) -> bool:
        """List the pods anew, and let the migrator go if none needs the old schema."""
        try:
            # The watch may be late; a list shows every pod that the API server has stored before it answers.
            listed, _ = await active.feed.list_objects()
        except ClusterError as error:
            log_event("contract.unreadable", level=logging.WARNING, gate="/".join(gate.key), error=str(error))
            return False
        pods = [pod for pod in listed if isinstance(pod, Pod)]
        migrator = next((pod for pod in pods if pod.metadata.uid == step.uid), None)
        if migrator is None or len(pods) < len(listed):
            return False  # gone, which the watch shows too; or a pod that cannot be read may need the old schema
        found = self._observer.count(gate, migrator, pods)
        active.state = plan.confirmed(active.state, found.living)
        if active.state.cleared:
            self._events.released(gate, migrator, step)
        self._rejudge(gate.namespace)
        return not active.state.cleared

    def _take_back(self, gate: Gate, active: _Active) -> None:
        step = active.state.contracting
        active.state = plan.taken_back(active.state)
        log_event("contract.ended", gate="/".join(gate.key), contract=step.revision if step else "")
        self._rejudge(gate.namespace)

    async def _write(self, gate: Gate, active: _Active) -> bool:
        """Write both fields where they differ from what is written, and return whether they are as they should be."""
        state = active.state
        waiting = state.waiting and dict(state.waiting.as_json(active.oldest))
        wanted = {"contracting": state.contracting and state.contracting.as_json(), "contractWaiting": waiting}
        if active.written == wanted:
            return True
        try:
            await self._api.patch_gate_status(*gate.key, wanted)
        except ClusterError as error:
            log_event("contract.unwritten", level=logging.WARNING, gate="/".join(gate.key), error=str(error))
            active.written = None
            return False
        active.written, active.written_at = wanted, self._monotonic()
        if active.refusing and state.contracting is None:
            active.refusing = False
            self._on_taken_back(gate.namespace)
        return True

    def _watch(self, gate: Gate, state: ContractState, *, refusing: bool) -> None:
        self._stop(gate.key)
        key = gate.key
        feed = self._api.selected_pods(gate.namespace, gate.selector)
        pods = Reflector(feed, lambda _old, _new: self.changed(key))
        task = start(self._group, self._follow(key, pods))
        if task is None:
            return
        # The gate in the cache may be a moment old, so nothing counts as written to its status yet.
        state = replace(state, written=False, announced_at=None)
        self._active[key] = _Active(feed, gate.selector, pods, task, state, refusing=refusing)

    async def _follow(self, key: Key, pods: Reflector[Pod]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(pods.run())
            await pods.wait_synced()
            self.changed(key)

    def _stop(self, key: Key) -> None:
        active = self._active.pop(key, None)
        if active is not None:
            active.watch.cancel()
            self._telemetry.contract_waiting.labels(*key).set(0)


def _timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
