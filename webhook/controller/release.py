"""Release held pods as soon as their verdict is good.

The verdict is the same pure decision that admission makes, over what is cached. It is made anew when one of these
changes: the pod itself, a gate, a ledger, what is known of an image, a contract migration that waits or runs, or the
label by which the namespace opted in.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from migrations.core.backoff import Backoff
from webhook.api.namespace import OptIn
from webhook.api.objects import Metadata, Pod
from webhook.background import start
from webhook.cache.gates import GateCache
from webhook.cache.namespaces import NamespaceCache
from webhook.controller.audit_events import AuditApi, AuditEvents
from webhook.controller.conflict_events import ConflictEvents
from webhook.controller.events import Event, EventSink, Reference
from webhook.controller.held_pods import HeldCount, HeldPod, HeldPods
from webhook.controller.late_gates import LateGates
from webhook.controller.rollout_events import RolloutApi, RolloutEvents
from webhook.controller.work_queue import WorkQueue, work_in_parts
from webhook.core.duration import format_duration
from webhook.core.expectation import ImageView
from webhook.core.gate import Gate
from webhook.core.patches import Patch, pin_patch, release_patch
from webhook.core.pod_verdict import PodVerdict, decide_pod
from webhook.core.verdict import Outcome, Reason, Verdict
from webhook.kube.errors import NotFound, Unavailable
from webhook.kube.reflector import Feed, Key, Reflector
from webhook.ledgers.registry import LedgerRegistry
from webhook.telemetry import Telemetry, isolated, log_event

PARALLEL_PATCHES = 32
"""Requests to the API server at a time; more of them only queue in its fair queuing, fewer keep a rollout waiting."""

RESOLVING_SECONDS = 2.0
"""How long a pod may wait for its image without an Event."""

OVERDUE_CHECK_SECONDS = 1.0
"""Between two checks for pods that are held for longer than ``maxHold``."""

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.05, 2.0
LONGEST_REFUSED_SECONDS = 120.0
"""Longest pause where the API server refuses the patch: one tenant's pods must not use up the requests of all."""

FAILED_RETRY_SECONDS = 30.0
"""Until a pod is judged again that could not be judged. A change of the pod, a gate or a ledger does it at once."""


class PodApi(RolloutApi, AuditApi, Protocol):
    """Where pods are watched and released."""

    def unbound_pods(self) -> Feed[Pod]:
        """Return the feed of the pods without a node."""

    async def patch_pod(self, pod: Metadata, patch: Patch) -> None:
        """Apply a JSON patch to a pod."""


class ReleaseReconciler:
    """Releases the held pods of the cluster.

    Watches the pods without a node; all held ones are among them. Acts on each change of a pod, and on each change of a
    gate, a ledger or an opt-in that the controller passes on. Writes the patch that removes the scheduling gate, and
    Events on pods.

    Args:
        images: what is known of the pods' images.
        on_count: called with each gate whose number of held or overdue pods may have changed.
        on_migrator: called with each gate that holds a migrator because of a contract migration that it brings.
        view: returns a gate with what the controller knows of its contract migration.
        now: the clock, aware.
        monotonic: seconds of the monotonic clock, for durations.
    """

    def __init__(
        self,
        api: PodApi,
        gates: GateCache,
        ledgers: LedgerRegistry,
        namespaces: NamespaceCache,
        telemetry: Telemetry,
        *,
        images: ImageView,
        on_count: Callable[[Gate], None],
        on_migrator: Callable[[Key], None],
        view: Callable[[Gate], Gate],
        emit: EventSink,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._api = api
        self._on_migrator = on_migrator
        self._view = view
        self._gates = gates
        self._ledgers = ledgers
        self._namespaces = namespaces
        self._telemetry = telemetry
        self._images = images
        self._on_count = on_count
        self._emit = emit
        self._now = now
        self._monotonic = monotonic
        self._pods = Reflector(api.unbound_pods(), self._pod_changed)
        self._held = HeldPods()
        self._audit = AuditEvents(api, gates, ledgers, images, emit, admission=namespaces.label, now=now)
        self._conflicts = ConflictEvents(emit)
        self._late_gates = LateGates(gates, namespaces, monotonic)
        self._rollouts = RolloutEvents(api, emit)
        self._releasing: set[str] = set()
        self._slots = asyncio.Semaphore(PARALLEL_PATCHES)
        self._namespaces_to_judge = WorkQueue(self._judge_namespace, interval=0.0, soon=0.0, workers=4)

    async def run(self) -> None:
        """Release pods until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self._pods.run())
            self._group.create_task(self._namespaces_to_judge.run())
            # Pods may be listed before gates. Until every gate is known, "no gate selects it" is not a reason to act.
            await self._gates.wait_synced()
            for namespace in self._held.namespaces:
                self.reconcile_namespace(namespace)
            while True:
                await asyncio.sleep(OVERDUE_CHECK_SECONDS)
                with isolated("overdue.failed"):
                    self._report_overdue()

    @property
    def watch_problem(self) -> str:
        """Why the pods are not seen as they are now; empty where they are."""
        return self._pods.problem

    @property
    def at_capacity(self) -> bool:
        """Whether as many pods are being released at once as allowed, so that less urgent requests should wait."""
        return self._slots.locked()

    def count(self, gate: Gate) -> HeldCount:
        """Return how many pods wait for a gate, and how many of them for longer than its ``maxHold``."""
        return self._held.count(gate.key)

    def held_in(self, *namespaces: str) -> Sequence[Pod]:
        """Return the held pods of these namespaces; of the cluster where none is given."""
        return [held.pod for each in namespaces or self._held.namespaces for held in self._held.of(each)]

    def is_releasing(self, uid: str) -> bool:
        """Return whether the request that releases a pod may be on its way."""
        return uid in self._releasing

    def reconcile_namespace(self, namespace: str) -> None:
        """Judge the held pods of a namespace anew, in the background: at once, unless that was done a moment ago."""
        if self._held.of(namespace):
            self._namespaces_to_judge.add(namespace)

    def image_read(self, namespace: str, reference: str) -> None:
        """Judge the held pods that wait for an image, at once and in the background, however many others there are.

        Judging all held pods takes longer the more there are, and so does the pause before they are judged again.

        Args:
            reference: the image, as it stands in the pods.
        """
        waiting = [held for held in self._held.of(namespace) if reference in held.unknown_images]
        if waiting:
            start(self._group, work_in_parts(waiting, self._rejudge))

    async def _judge_namespace(self, namespace: str) -> float:
        """Judge the held pods of a namespace, and return the seconds until it may be done again."""
        return await work_in_parts(self._held.of(namespace), self._rejudge)

    def _rejudge(self, held: HeldPod) -> None:
        if self._held.get(held.pod.metadata.key) is held:
            self._reconcile(held)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is None:
            return
        held = self._held.get(pod.metadata.key)
        # Another uid is another pod: a StatefulSet's comes back under its name, and a list may skip what was between.
        if held is not None and (new is None or not new.held or new.metadata.uid != held.pod.metadata.uid):
            waited_for = held.waits_for
            self._held.remove(held)
            self._releasing.discard(held.pod.metadata.uid)
            self._report_counts(held.pod.metadata.namespace, waited_for)
            held = None
        if new is None:
            return
        if old is None:
            self._follow_ledgers(new)
        if not new.held:
            if old is None and self._gates.synced:
                self._report_conflicts(new)
                if self._audit.applies_to(new):
                    start(self._group, self._check_audit(new))
            return
        if held is None:
            held = HeldPod(new, self._monotonic(), _created(new, self._now()))
            self._held.add(held)
        else:
            held.pod = new
        self._reconcile(held)

    def _report_conflicts(self, pod: Pod) -> None:
        with isolated("pod.failed", pod="/".join(pod.metadata.key)):
            selecting = self._ledgers.gates_with_snapshots(pod.metadata.namespace, pod.labels)
            if any(gate.expect_image for gate, _ in selecting):
                self._conflicts.report(pod, decide_pod(pod, selecting, self._now(), self._images))

    def _follow_ledgers(self, pod: Pod) -> None:
        """Follow the ledgers of a created pod for a while: more pods may come, and a migration with them."""
        age = (self._now() - _created(pod, self._now())).total_seconds()
        for gate in self._gates.selecting(pod.metadata.namespace, pod.labels):
            self._ledgers.pod_created(gate.key, max(age, 0.0))

    def _report_counts(self, namespace: str, gates: Iterable[str]) -> None:
        for name in gates:
            gate = self._gates.gate((namespace, name))
            if gate is not None:
                self._on_count(gate)

    def _reconcile(self, held: HeldPod) -> None:
        """Release a pod, or report why it is held; where that fails in an unforeseen way, try again later."""
        done = False
        with isolated("pod.failed", pod="/".join(held.pod.metadata.key)):
            self._reconcile_once(held)
            done = True
        if not done and not held.timer_set:
            held.timer_set = True
            asyncio.get_running_loop().call_later(FAILED_RETRY_SECONDS, self._timer_fired, held)

    def _reconcile_once(self, held: HeldPod) -> None:
        uid = held.pod.metadata.uid
        if uid in self._releasing or not self._gates.synced:
            return
        decided = self._judge(held)
        verdict = decided.final
        self._conflicts.report(held.pod, decided)
        if self._may_start(held, verdict):
            self._releasing.add(uid)
            start(self._group, self._release_isolated(held))
        elif (verdict.gate, verdict.reason) not in held.reported and not self._too_early(held, verdict):
            held.reported.add((verdict.gate, verdict.reason))
            self._emit(Event(Reference.pod(held.pod.metadata), "Hold", "Held", verdict.message))
            start(self._group, self._report_rollout(held.pod.metadata, verdict.message))

    def _too_early(self, held: HeldPod, verdict: Verdict) -> bool:
        """Return whether a pod may wait for a moment only: for its image, or until its namespace's label is certain."""
        if not self._late_gates.is_certain(held, verdict):
            return True
        return verdict.reason is Reason.RESOLVING and self._monotonic() - held.first_seen < RESOLVING_SECONDS

    async def _report_rollout(self, pod: Metadata, why: str) -> None:
        with isolated("rollout.failed", pod="/".join(pod.key)):
            await self._rollouts.report(pod, why)

    async def _check_audit(self, pod: Pod) -> None:
        with isolated("audit.failed", pod="/".join(pod.metadata.key)):
            await self._audit.check(pod)

    def _judge(self, held: HeldPod) -> PodVerdict:
        """Return the verdict on a pod, and note which gates it waits for."""
        namespace = held.pod.metadata.namespace
        if self._namespaces.admission(namespace, held.first_seen) is not OptIn.ENABLED:
            text = f"namespace {namespace} has opted out of enforcement: the pod starts"
            return PodVerdict(Verdict(Reason.UNSELECTED, Outcome.ADMIT, text))
        found = self._ledgers.gates_with_snapshots(namespace, held.pod.labels)
        selecting = [(self._view(gate), snapshot) for gate, snapshot in found]
        if selecting:
            held.claimed_by = frozenset(gate.key for gate, _ in selecting)
            held.unclaimed_since = None
        elif held.claimed_by and held.unclaimed_since is None:
            held.unclaimed_since = self._monotonic()
        decided = self._late_gates.judge(held, decide_pod(held.pod, selecting, self._now(), self._images))
        for each in decided.by_gate:
            if each.verdict.reason is Reason.STILL_NEEDED:
                self._on_migrator(each.gate.key)
        unknown = (each.required.unknown for each in decided.by_gate)
        held.unknown_images = frozenset(image.reference for image in unknown if image is not None)
        # A pod that no gate holds any longer is about to be released; until then it counts for each of its gates.
        waits_for = [each for each in decided.by_gate if decided.final.outcome.good or not each.verdict.outcome.good]
        changed = self._held.set_waits(held, frozenset(each.gate.name for each in waits_for))
        self._report_counts(namespace, changed)
        limits = [each.gate.policy.max_hold for each in waits_for if each.gate.name not in held.overdue]
        held.next_overdue = held.created + min(limits) if limits else None
        return decided

    def _may_start(self, held: HeldPod, verdict: Verdict) -> bool:
        """Return whether a pod may start; set a timer for one whose gate may still be created."""
        if verdict.outcome.good or verdict.reason is not Reason.UNSELECTED:
            return verdict.outcome.good
        left = self._late_gates.seconds_left(held)
        if 0 < left < math.inf and not held.timer_set:
            held.timer_set = True
            asyncio.get_running_loop().call_later(left, self._timer_fired, held)
        return left <= 0

    def _timer_fired(self, held: HeldPod) -> None:
        held.timer_set = False  # it may fire a moment early (uvloop rounds); then `_may_start` sets it again
        self._rejudge(held)

    async def _release_isolated(self, held: HeldPod) -> None:
        done = False
        with isolated("pod.failed", pod="/".join(held.pod.metadata.key)):
            await self._release(held)
            done = True
        if not done:
            self._releasing.discard(held.pod.metadata.uid)  # judged again at the next change

    async def _release(self, held: HeldPod) -> None:
        """Remove the scheduling gate from a pod, retrying while it is held and its verdict stays good."""
        uid = held.pod.metadata.uid
        backoff = Backoff(FIRST_RETRY_SECONDS, LONGEST_REFUSED_SECONDS, jitter=random.random)
        while True:
            longest = LONGEST_RETRY_SECONDS
            async with self._slots:
                # Judged again, with the slot: a long queue may have passed, and a ledger can be rolled back meanwhile.
                decided = self._judge(held)
                verdict = decided.final
                if uid not in self._releasing or not self._may_start(held, verdict):
                    break
                try:
                    await self._api.patch_pod(
                        held.pod.metadata, release_patch(held.pod) + pin_patch(held.pod, decided.pins)
                    )
                except NotFound:
                    break
                except Exception as error:  # noqa: BLE001 - ClusterError, or what is wrong with this one pod
                    # The patch's `test` fails where the list of scheduling gates has changed since it was read; the
                    # watch brings the pod as it is now, and so another index, before the next attempt.
                    name = "/".join(held.pod.metadata.key)
                    log_event("pod.release_failed", level=logging.WARNING, pod=name, error=str(error))
                    longest = LONGEST_RETRY_SECONDS if isinstance(error, Unavailable) else LONGEST_REFUSED_SECONDS
                else:
                    self._report_release(held, verdict)
                    return  # it stays in `_releasing` until the watch shows it without the gate: one patch is enough
            await asyncio.sleep(backoff.next(at_most=longest))
        self._releasing.discard(uid)

    def _report_release(self, held: HeldPod, verdict: Verdict) -> None:
        seconds = self._monotonic() - held.first_seen
        namespace, name = held.pod.metadata.key
        self._telemetry.hold_duration.observe(seconds)
        # The gate may have been deleted since the verdict; a series for it would stay for ever.
        known = self._gates.gate((namespace, verdict.gate)) is not None
        self._telemetry.releases.labels(*((namespace, verdict.gate) if known else ("", "")), "gate").inc()
        log_event(
            "pod.released",
            namespace=namespace,
            pod=name,
            gate=verdict.gate,
            reason=verdict.reason,
            held_ms=round(seconds * 1000),
        )
        if held.reported:
            self._emit(Event(Reference.pod(held.pod.metadata), "Release", "Released", _release_note(held, verdict)))

    def _report_overdue(self) -> None:
        now = self._now()
        for held in tuple(self._held.due(now)):
            for each in self._judge(held).by_gate:
                gate, verdict = each.gate, each.verdict
                if verdict.outcome.good or gate.name in held.overdue or now - held.created < gate.policy.max_hold:
                    continue
                self._held.set_overdue(held, gate.name)
                limit = format_duration(gate.policy.max_hold)
                note = f"held by LedgerGate {gate.name} for longer than {limit}: {verdict.message}"
                pod = Reference.pod(held.pod.metadata)
                self._emit(Event(pod, "Hold", "HeldTooLong", note, warning=True, dedup_key=gate.name))
                self._on_count(gate)
            self._judge(held)  # sets `next_overdue` to the next gate's limit


def _release_note(held: HeldPod, verdict: Verdict) -> str:
    """Return why a pod starts; where no gate selects it, the verdict's message says that it waits, and is replaced."""
    if verdict.outcome.good:
        return verdict.message
    return f"no LedgerGate {'selects it any more' if held.claimed_by else 'has come to select it'}: the pod starts"


def _created(pod: Pod, now: datetime) -> datetime:
    stamp = pod.metadata.creation_timestamp
    return datetime.fromisoformat(stamp) if stamp else now
