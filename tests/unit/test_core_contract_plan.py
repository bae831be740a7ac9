"""A contract migration goes only while no living pod expects less, whatever happens in whichever order."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from migrations.core.contract import Contract
from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import LedgerSnapshot
from webhook.api.objects import LedgerGate, Pod
from webhook.core import contract_plan as plan
from webhook.core.contract_plan import SETTLE_SECONDS, Candidate, ContractFacts, ContractState, MigratorState, NextStep
from webhook.core.contract_state import ContractStep, PodGroup
from webhook.core.gate import Gate, parse_gate
from webhook.core.living import LivingPods, count_living
from webhook.core.pod_verdict import decide_pod, leave_to_controller, read_required
from webhook.core.verdict import Outcome

A, B, C = "20260101_a", "20260102_b", "20260103_c"
EPOCH = datetime(2026, 1, 26, 12, tzinfo=UTC)
STEP = ContractStep(C, B, "m", "m")
SPEC: dict[str, Any] = {
    "selector": {},
    "database": {"secretRef": {"name": "pg"}},
    "ledger": {"dialect": "ledgergate"},
}
WEBHOOKS = 2
LAG = SETTLE_SECONDS * 0.9
"""Seconds after which every webhook has seen a status: what the pause before a release relies on."""


@dataclass
class Sim:
    """A pod as the API server has it."""

    expected: str
    held: bool
    phase: str = "Running"
    deleted: bool = False

    @property
    def living(self) -> bool:
        """Whether its containers may run."""
        return not self.held and self.phase == "Running"

    def as_pod(self, uid: str) -> Pod:
        """Return it as a Pod object; the pod `m` is the migrator."""
        annotations = {"ledgergate.dev/revision": self.expected}
        if uid.startswith("m"):
            annotations |= {"ledgergate.dev/migrates": "app", "ledgergate.dev/contract": f"{C}:{B}"}
        gates = [{"name": "ledgergate.dev/ledger"}] if self.held else None
        return msgspec.convert(
            {
                "metadata": {"name": uid, "uid": uid, "annotations": annotations},
                "spec": {"schedulingGates": gates},
                "status": {"phase": self.phase},
            },
            Pod,
        )


class World:
    """One gate, its controller, which may be killed, and several webhooks that see its status late."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.pods: dict[str, Sim] = {}
        self.serial = 0
        self.applied = False
        self.statuses: list[tuple[float, dict[str, Any]]] = [(0.0, {"recorded": False})]
        self.seen = [0] * WEBHOOKS
        self.parsed: dict[int, Gate] = {}
        self._start_controller()

    # The controller

    def _start_controller(self) -> None:
        status = self.statuses[-1][1]
        gate = self._gate(status)
        self.state = ContractState(contracting=gate.contracting, waiting=gate.contract_waiting)
        self.watched = deepcopy(self.pods)
        self.releasing: set[str] = set()
        self.in_flight: set[str] = set()
        self.read: tuple[bool, datetime] = (self.applied, self._now())

    def _now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.clock)

    def _gate(self, status: dict[str, Any]) -> Gate:
        if id(status) not in self.parsed:  # a status is written once and read often, and none is forgotten
            fields = {key: value for key, value in status.items() if key != "recorded" and value}
            found = {"spec": SPEC, "metadata": {"name": "app"}, "status": fields}
            self.parsed[id(status)] = parse_gate(msgspec.convert(found, LedgerGate))
        return self.parsed[id(status)]

    def _view(self) -> Gate:
        gate = self._gate(self.statuses[-1][1])
        state = self.state
        return replace(gate, contracting=state.contracting, contract_waiting=state.waiting, cleared=state.cleared)

    @staticmethod
    def _snapshot(applied: bool) -> LedgerSnapshot:
        records = [Record(A, State.APPLIED), Record(B, State.APPLIED)]
        return LedgerSnapshot(
            Ledger.of([*records, *([Record(C, State.APPLIED, compatible_from=B)] if applied else [])]), EPOCH
        )

    def _count(self, pods: dict[str, Sim], migrator: str) -> Candidate:
        gate = self._view()
        living = count_living(
            gate,
            [sim.as_pod(uid) for uid, sim in pods.items()],
            (Contract(C, B),),
            self._snapshot(self.read[0]).ledger,
            migrator=migrator,
            read=lambda pod: read_required(pod, gate),
            released=self.releasing.__contains__,
        )
        return Candidate(replace(STEP, pod=migrator, uid=migrator), (Contract(C, B),), living)

    def _write(self) -> None:
        status = self.statuses[-1][1] | {
            "contracting": self.state.contracting and self.state.contracting.as_json(),
            "contractWaiting": self.state.waiting and dict(self.state.waiting.as_json("")),
        }
        if status != self.statuses[-1][1]:
            self.statuses.append((self.clock, status))

    def _good(self, uid: str) -> bool:
        return decide_pod(
            self.pods[uid].as_pod(uid), [(self._view(), self._snapshot(self.read[0]))], self._now()
        ).final.outcome.good

    def contract_step(self, _: int) -> None:
        """Take the next step about the contract, by what is watched."""
        contracting = self.state.contracting
        held = sorted(uid for uid, sim in self.watched.items() if uid.startswith("m") and sim.held)
        candidate = self._count(self.watched, held[0]) if held and not contracting and not self.read[0] else None
        sim = self.watched.get(contracting.uid) if contracting else None
        ended = sim is None or sim.phase != "Running"
        migrator = (
            MigratorState.OVER if sim is None or ended else MigratorState.HELD if sim.held else MigratorState.RUNNING
        )
        facts = ContractFacts(
            monotonic=self.clock,
            candidate=candidate,
            migrator=migrator,
            applied=self.read[0],
            recorded=self.statuses[-1][1]["recorded"],
            read_at=self.read[1],
        )
        self.state = plan.noticed_end(self.state, migrator, self._now())
        match plan.next_step(self.state, facts):
            case NextStep.ANNOUNCE if candidate:
                self.state = plan.announced(self.state, candidate)
                self._write()
                if self.state.announced_at is None:
                    self.state = replace(self.state, announced_at=self.clock)
            case NextStep.BEGIN:
                if contracting is None and candidate:
                    self.state = plan.begun(candidate.step)
                    return  # not written yet: the controller may be killed here
                self._write()
                self.state = replace(self.state, written=True)
            case NextStep.CONFIRM if contracting:
                self.state = plan.confirmed(self.state, self._count(self.pods, contracting.uid).living)
            case NextStep.TAKE_BACK:
                self.state = plan.taken_back(self.state)
                self._write()
            case NextStep.WITHDRAW:
                self.state = replace(self.state, waiting=None, announced_at=None)
                self._write()

    def controller_starts_releases(self, _: int) -> None:
        """Find the held pods that may go."""
        self.releasing |= {uid for uid, sim in self.pods.items() if sim.held and self._good(uid)}

    def controller_sends_releases(self, _: int) -> None:
        """Judge them once more, and send the requests."""
        for uid in sorted(self.releasing & self.pods.keys() - self.in_flight):
            if self.pods[uid].held and self._good(uid):
                self.in_flight.add(uid)
            elif self.pods[uid].held:
                self.releasing.discard(uid)

    def release_lands(self, choice: int) -> None:
        """The API server removes one scheduling gate."""
        if not self.in_flight:
            return
        uid = _chosen(self.in_flight, choice)
        self.in_flight.discard(uid)
        if uid in self.pods:
            self.pods[uid].held = False

    def watch_catches_up(self, _: int) -> None:
        """The controller sees the pods as they are."""
        self.watched = deepcopy(self.pods)
        self.releasing = {uid for uid in self.releasing if uid in self.pods and self.pods[uid].held}

    def controller_reads_the_ledger(self, _: int) -> None:
        """The ledger is read, and the status says so."""
        self.read = (self.applied, self._now() + timedelta(milliseconds=1))
        status = self.statuses[-1][1]
        if status["recorded"] != self.applied:
            self.statuses.append((self.clock, status | {"recorded": self.applied}))

    def controller_is_killed(self, _: int) -> None:
        """Requests on their way may still land; the next leader starts from the status."""
        for uid in self.in_flight & self.pods.keys():
            self.pods[uid].held = False
        self._start_controller()

    # The rest of the world

    def time_passes(self, choice: int) -> None:
        """A webhook has seen each status before the controller relies on it."""
        for _ in range((1, 4, 10)[choice % 3]):
            self.clock += 0.1
            due = max(i for i, (at, _) in enumerate(self.statuses) if i == 0 or self.clock - at >= LAG)
            self.seen = [max(index, due) for index in self.seen]

    def webhook_catches_up(self, choice: int) -> None:
        """One webhook sees the newest status."""
        self.seen[choice % WEBHOOKS] = len(self.statuses) - 1

    def pod_is_created(self, choice: int) -> None:
        """A ReplicaSet creates a pod: the webhook decides by the status that it has seen."""
        self.serial += 1
        self._create(f"p{self.serial}", (A, A, B)[choice % 3], choice % WEBHOOKS)

    def migrator_is_created(self, choice: int) -> None:
        """A Job creates its pod."""
        self.serial += 1
        self._create(f"m{self.serial}", B, choice % WEBHOOKS)

    def _create(self, uid: str, expected: str, webhook: int) -> None:
        status = self.statuses[self.seen[webhook]][1]
        pod = Sim(expected, held=False).as_pod(uid)
        decided = leave_to_controller(
            decide_pod(pod, [(self._gate(status), self._snapshot(status["recorded"]))], self._now())
        )
        if decided.final.outcome is not Outcome.DENY:
            self.pods[uid] = Sim(expected, held=not decided.final.outcome.good)

    def pod_ends(self, choice: int) -> None:
        """A pod ends, or is gone; most often an older one."""
        if not self.pods:
            return
        uid = _chosen(self._older() if choice % 3 and self._older() else self.pods, choice)
        if choice % 2:
            del self.pods[uid]
        elif not self.pods[uid].held:
            self.pods[uid].phase = "Failed"

    def migrator_applies(self, _: int) -> None:
        """A migrator that runs applies the contract migration."""
        if any(uid.startswith("m") and sim.living for uid, sim in self.pods.items()):
            self.applied = True

    # What must hold

    def _older(self) -> Sequence[str]:
        return [uid for uid, sim in self.pods.items() if sim.living and sim.expected == A]

    def no_older_pod_runs_beside_the_migrator_or_after_it(self) -> None:
        """Check that no older pod runs while a migrator with the contract runs, or once the contract is applied."""
        running = [uid for uid, sim in self.pods.items() if uid.startswith("m") and sim.living]
        if running or self.applied:
            assert not self._older(), (running, self.applied)


def _chosen(uids: Collection[str], choice: int) -> str:
    return sorted(uids)[choice % len(uids)]


# The controller acts more often than anything else happens, so that most walks come to a release.
ACTIONS = (
    *(World.contract_step,) * 5,
    *(World.time_passes,) * 2,
    *(World.pod_is_created,) * 2,
    *(World.pod_ends,) * 2,
    *(World.watch_catches_up,) * 3,
    World.controller_starts_releases,
    World.controller_sends_releases,
    *(World.release_lands,) * 2,
    World.controller_reads_the_ledger,
    World.controller_is_killed,
    World.webhook_catches_up,
    World.migrator_is_created,
    World.migrator_applies,
)


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(0, 2**32))
def test_an_older_pod_never_runs_beside_the_migrator(seed: int) -> None:
    """Whatever pods, webhooks, the controller and the migrator do in whichever order."""
    chance, world = Random(seed), World()  # noqa: S311 - a seed, no secret
    # Weights of their own for each walk: one with late watches, one with many kills, and so on.
    weights = [chance.random() ** 2 for _ in ACTIONS]
    for act in (World.migrator_is_created, *chance.choices(ACTIONS, weights, k=300)):
        act(world, chance.randrange(12))
        world.no_older_pod_runs_beside_the_migrator_or_after_it()


def test_the_pods_are_not_listed_before_the_barrier_is_written() -> None:
    """A list that began earlier could miss a pod that came in before admission knew."""
    with pytest.raises(ValueError, match=r"after status\.contracting was written"):
        plan.confirmed(plan.begun(STEP), Candidate(STEP, ()).living)


def test_an_older_pod_in_the_new_list_ends_the_attempt() -> None:
    """The watch did not show it yet: the migrator waits again, and is announced anew."""
    older = LivingPods((PodGroup("deployment/old", A, 1),), A)
    state = plan.confirmed(replace(plan.begun(STEP), written=True), older)
    assert state == ContractState()
    assert plan.next_step(state, ContractFacts(0.0, Candidate(STEP, (), older))) is NextStep.ANNOUNCE


def test_a_migrator_without_older_pods_goes_after_the_pause() -> None:
    """The steps in order, with no older pod: announced, begun, confirmed, cleared."""
    candidate = Candidate(STEP, (Contract(C, B),))
    facts = ContractFacts(monotonic=10.0, candidate=candidate)
    state = ContractState()
    assert plan.next_step(state, facts) is NextStep.ANNOUNCE
    state = replace(plan.announced(state, candidate), announced_at=10.0)
    assert plan.next_step(state, facts) is NextStep.SETTLE
    late = replace(facts, monotonic=10.0 + SETTLE_SECONDS)
    assert plan.next_step(state, late) is NextStep.BEGIN
    state = replace(plan.begun(STEP), written=True)
    held = replace(late, migrator=MigratorState.HELD)
    assert plan.next_step(state, held) is NextStep.CONFIRM
    state = plan.confirmed(state, candidate.living)
    assert state.cleared == STEP.uid
    assert plan.next_step(state, held) is NextStep.NOTHING


def test_a_migrator_that_has_ended_takes_it_back_once_the_ledger_was_read() -> None:
    """It may have applied the migration just before its end, so only a reading made after that counts."""
    state = plan.noticed_end(replace(plan.begun(STEP), written=True), MigratorState.OVER, EPOCH)
    facts = ContractFacts(monotonic=0.0, migrator=MigratorState.OVER, read_at=EPOCH)
    assert plan.next_step(state, facts) is NextStep.NOTHING
    assert plan.next_step(state, replace(facts, read_at=None)) is NextStep.NOTHING
    read = replace(facts, read_at=EPOCH + timedelta(seconds=1))
    assert plan.next_step(state, read) is NextStep.TAKE_BACK
    applied = replace(read, applied=True)
    assert plan.next_step(state, applied) is NextStep.NOTHING
    assert plan.next_step(state, replace(applied, recorded=True)) is NextStep.TAKE_BACK
