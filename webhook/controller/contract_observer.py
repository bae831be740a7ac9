"""What is seen of a contract migration: its migrator, the living pods under the gate, and the ledger."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from webhook.api.objects import Pod
from webhook.cache.gates import GateCache
from webhook.core.contract_plan import Candidate, ContractFacts, ContractState, MigratorState
from webhook.core.contract_state import ContractStep
from webhook.core.contracting import boundary_of, lacking
from webhook.core.expectation import ImageView
from webhook.core.gate import Action, Gate, Mode
from webhook.core.history import recall_ledger
from webhook.core.living import count_living, is_finished
from webhook.core.pod_verdict import decide_pod, read_required
from webhook.core.verdict import Reason
from webhook.kube.reflector import Key
from webhook.ledgers.registry import LedgerRegistry


class ContractObserver:
    """Reads what decides about a contract migration, without I/O.

    Args:
        images: what is known of the pods' images.
        held: the held pods of a namespace.
        releasing: whether the request that releases the pod of this uid may be on its way.
        now: the clock, aware.
    """

    def __init__(
        self,
        gates: GateCache,
        ledgers: LedgerRegistry,
        *,
        images: ImageView,
        held: Callable[[str], Iterable[Pod]],
        releasing: Callable[[str], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._gates = gates
        self._ledgers = ledgers
        self._images = images
        self._held = held
        self._releasing = releasing
        self._now = now

    def facts(self, gate: Gate, state: ContractState, pods: Mapping[Key, Pod], monotonic: float) -> ContractFacts:
        """Return what is seen now.

        Args:
            pods: the pods under the gate, as the watch shows them.
            monotonic: seconds.
        """
        snapshot, step = self._ledgers.snapshot(gate), state.contracting
        ledger = snapshot.ledger if snapshot.fault is None else None
        recorded = recall_ledger(self._gates.gate(gate.key) or gate)
        return ContractFacts(
            monotonic=monotonic,
            candidate=None if step else self._candidate(gate, state, pods),
            migrator=_migrator_state(gate, pods, step) if step else MigratorState.OVER,
            applied=step is not None and ledger is not None and ledger.contains(step.revision),
            recorded=step is not None and recorded is not None and recorded.contains(step.revision),
            read_at=snapshot.observed_at if snapshot.fault is None else None,
        )

    def migrators(self, gate: Gate) -> list[Pod]:
        """Return the held pods of which the gate's policy wants that no living pod needs the old schema.

        One that another gate holds for another reason is not among them: older pods would be refused for as long.
        """
        policy = gate.policy
        if policy.on_contract not in {Action.HOLD, Action.DENY} or policy.mode is not Mode.ENFORCE:
            return []
        if policy.is_bypassed(self._now()):
            return []
        selected = (pod for pod in self._held(gate.namespace) if gate.selector.matches(pod.labels))
        return [pod for pod in selected if self._brings_contract(gate, pod) and not self._is_held_elsewhere(gate, pod)]

    def count(self, gate: Gate, migrator: Pod, pods: Iterable[Pod]) -> Candidate:
        """Return a migrator with the living pods that it would break."""
        ledger, metadata = self._ledgers.snapshot(gate).ledger, migrator.metadata
        contracts = lacking(gate, read_required(migrator, gate, self._images), ledger)
        living = count_living(
            gate,
            pods,
            contracts,
            ledger,
            migrator=metadata.uid,
            read=lambda pod: read_required(pod, gate, self._images),
            released=self._releasing,
        )
        revision = contracts[-1].revision if contracts else ""
        boundary = boundary_of(gate, contracts) if contracts else ""
        step = ContractStep(revision, boundary, metadata.name, metadata.uid, metadata.creation_timestamp or "")
        return Candidate(step, contracts, living)

    def _brings_contract(self, gate: Gate, pod: Pod) -> bool:
        required = read_required(pod, gate, self._images)
        return required.migrates and bool(lacking(gate, required, self._ledgers.snapshot(gate).ledger))

    def _is_held_elsewhere(self, gate: Gate, pod: Pod) -> bool:
        selecting = self._ledgers.gates_with_snapshots(gate.namespace, pod.labels)
        others = [(other, snapshot) for other, snapshot in selecting if other.key != gate.key]
        verdicts = (each.verdict for each in decide_pod(pod, others, self._now(), self._images).by_gate)
        return any(not verdict.outcome.good and verdict.reason is not Reason.STILL_NEEDED for verdict in verdicts)

    def _candidate(self, gate: Gate, state: ContractState, pods: Mapping[Key, Pod]) -> Candidate | None:
        """Return the migrator to go next: the one that waits already, else the one that was created first."""
        waiting = state.waiting.step.uid if state.waiting else ""
        first = min(
            (pod for pod in self.migrators(gate) if pod.metadata.key in pods),
            key=lambda pod: (pod.metadata.uid != waiting, pod.metadata.creation_timestamp or "", pod.metadata.name),
            default=None,
        )
        return self.count(gate, first, pods.values()) if first else None


def _migrator_state(gate: Gate, pods: Mapping[Key, Pod], step: ContractStep) -> MigratorState:
    pod = pods.get((gate.namespace, step.pod))
    if pod is None or pod.metadata.uid != step.uid or is_finished(pod):
        return MigratorState.OVER
    return MigratorState.RUNNING if pod.gate_index is None else MigratorState.HELD
