"""Which living pods a contract migration would break, counted by owner and expected revision. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key

from migrations.core.contract import Contract
from migrations.core.ledger import Ledger
from webhook.api.objects import Pod
from webhook.core.contract_state import PodGroup
from webhook.core.contracting import expects_less, needs_old_schema
from webhook.core.gate import Action, Gate
from webhook.core.requirement import Requirement

_TEMPLATE_HASH = "pod-template-hash"
_FINISHED = {"Succeeded", "Failed"}


@dataclass(frozen=True, slots=True)
class LivingPods:
    """The pods that count for a contract migration.

    Args:
        groups: by owner and expected revision, those that are waited for first, the largest first.
        oldest: the oldest revision that any of them expects; empty where none declares one.
    """

    groups: tuple[PodGroup, ...] = ()
    oldest: str = ""

    @property
    def needed(self) -> int:
        """How many pods the migration has to wait for."""
        return sum(group.count for group in self.groups if group.needed)


def is_finished(pod: Pod) -> bool:
    """Return whether none of a pod's containers will run again."""
    return pod.status.phase in _FINISHED


def is_living(pod: Pod, *, released: bool) -> bool:
    """Return whether a pod runs, or can start without another decision of ledgergate.

    A pod that is being deleted runs until its object is gone.

    Args:
        released: the request that takes its scheduling gate off may be on its way.
    """
    return not is_finished(pod) and (pod.gate_index is None or released)


def owner_of(pod: Pod) -> str:
    """Return a pod's owner as kubectl prints it; for a Deployment's ReplicaSet, the Deployment."""
    owner = pod.metadata.owner
    if owner is None:
        return ""
    suffix = f"-{pod.labels.get(_TEMPLATE_HASH, '')}"
    if owner.kind == "ReplicaSet" and len(suffix) > 1 and owner.name.endswith(suffix):
        return f"deployment/{owner.name.removesuffix(suffix)}"
    return f"{owner.kind.lower()}/{owner.name}"


def count_living(
    gate: Gate,
    pods: Iterable[Pod],
    contracts: Sequence[Contract],
    ledger: Ledger | None,
    *,
    migrator: str,
    read: Callable[[Pod], Requirement],
    released: Callable[[str], bool],
) -> LivingPods:
    """Count the living pods under a gate, and those of them that contract migrations would break.

    A pod that declares nothing is waited for where ``onUndeclared`` would not let it start either.

    Args:
        pods: every pod that the gate selects.
        contracts: what the migrator brings and the ledger lacks.
        migrator: uid of the migrator, which does not count.
        read: reads what a pod requires of the gate's ledger.
        released: whether the pod of this uid is being released.
    """
    counts: Counter[tuple[str, str, bool]] = Counter()
    requirements: dict[str, Requirement] = {}
    for pod in pods:
        uid = pod.metadata.uid
        if uid == migrator or not is_living(pod, released=released(uid)):
            continue
        required = read(pod)
        if required.unknown is not None and not required.migrates:
            counts[owner_of(pod), "", True] += 1  # what its image needs is not known, so it may be the old schema
            continue
        if required.expected is None:
            if required.migrates:
                continue  # only a migrator, no application that uses the schema
            counts[owner_of(pod), "", gate.policy.on_undeclared in {Action.HOLD, Action.DENY}] += 1
            continue
        needed = needs_old_schema(gate, required, contracts, ledger)
        counts[owner_of(pod), required.expected.name, needed] += 1
        requirements.setdefault(required.expected.name, required)
    groups = [PodGroup(owner, expected, count, needed) for (owner, expected, needed), count in counts.items()]
    groups.sort(key=lambda group: (not group.needed, -group.count, group.owner, group.expected))
    return LivingPods(tuple(groups), _oldest(gate, requirements, ledger))


def _oldest(gate: Gate, requirements: dict[str, Requirement], ledger: Ledger | None) -> str:
    def compare(one: str, other: str) -> int:
        before = expects_less(gate, requirements[one], other, ledger)
        return 0 if one == other or before is None else -1 if before else 1

    return min(sorted(requirements), key=cmp_to_key(compare), default="")


def still_needed_text(
    shown_gate: str, contract: str, boundary: str, groups: Sequence[PodGroup], shown: Callable[[str], str]
) -> str:
    """Return the sentence that says which pods a contract migration waits for.

    Args:
        boundary: the oldest revision whose images can still run.
        groups: those that are waited for first; empty where the pods have not been counted.
        shown: cuts a name to what a message has room for.
    """
    text = f"contract migration {shown(contract)} of ledger {shown_gate} needs images from {shown(boundary)} on"
    needed = [group for group in groups if group.needed]
    if not needed:
        return text
    first, rest = needed[0], sum(group.count for group in needed[1:])
    undeclared = sum(group.count for group in groups if not group.expected and not group.needed)
    owner = f"of {shown(first.owner)}" if first.owner else "without an owner"
    what = f"expect{'s' if first.count == 1 else ''} {shown(first.expected)}" if first.expected else "declare nothing"
    text += f"; {first.count} {_pods(first.count)} {owner} {what}"
    text += f", and {rest} more {_pods(rest)} cannot run with it" if rest else ""
    return text + (f" ({undeclared} {_pods(undeclared)} declare nothing)" if undeclared else "")


def _pods(count: int) -> str:
    return "pod" if count == 1 else "pods"
