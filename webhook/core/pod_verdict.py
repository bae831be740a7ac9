"""Decide whether a pod may run under every gate that selects it.

Admission, release and readiness all decide here or, about one gate, by :func:`webhook.core.verdict.decide`. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from migrations.core.snapshot import LedgerSnapshot
from webhook.api.namespace import UNDECLARED_LABEL, WAIT
from webhook.api.objects import Pod
from webhook.core.contracting import is_announced_against, read_brought
from webhook.core.expectation import STATUS_IMAGES, ImageView, read_expectation
from webhook.core.gate import Gate, Mode
from webhook.core.images import has_tag
from webhook.core.near_misses import find_near_misses
from webhook.core.requirement import MIGRATES, START, UNDECLARED, Requirement, declares_revision, needs_nothing
from webhook.core.verdict import Outcome, Reason, Verdict, decide


@dataclass(frozen=True, slots=True)
class Decision:
    """One gate's verdict on one pod, with everything that it was decided from."""

    gate: Gate
    snapshot: LedgerSnapshot
    required: Requirement
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class PodVerdict:
    """The verdicts of every gate that selects a pod.

    Args:
        final: the strictest of them: the pod needs the consent of each gate.
        by_gate: one decision per gate, in the order of the gates.
        hints: what the pod declares without effect; the first of them is also in the message of a bad final verdict.
    """

    final: Verdict
    by_gate: tuple[Decision, ...] = ()
    hints: tuple[str, ...] = ()

    @property
    def pins(self) -> Mapping[str, str]:
        """The images to pin: each image with its digest, by the image with its tag as it stands in the pod."""
        return {
            reference: image
            for each in self.by_gate
            if each.gate.expect_image and each.gate.expect_image.pin and each.gate.policy.mode is Mode.ENFORCE
            for reference, image in each.required.images
            if has_tag(reference)
        }


def read_required(pod: Pod, gate: Gate, images: ImageView = STATUS_IMAGES) -> Requirement:
    """Read what a pod requires of a gate's ledger and, of a migrator, what it brings.

    Args:
        images: what is known of the pod's images; asked only where the gate asks them.
    """
    required = read_expectation(pod, gate, images)
    if not required.migrates:
        return required
    return replace(required, brings=read_brought(pod, required.contract or None))


def leave_to_controller(decided: PodVerdict) -> PodVerdict:
    """Return the verdicts for use in admission, which leaves some pods to the controller while a migrator waits.

    A pod that may need the old schema is held, although its verdict is good, until the controller has decided: the
    controller alone knows whether it has just released the migrator.
    """
    by_gate = tuple(_left_to_controller(decision) for decision in decided.by_gate)
    if by_gate == decided.by_gate:
        return decided
    final = strictest(decision.verdict for decision in by_gate) or decided.final
    return PodVerdict(_with_hint(final, decided.hints), by_gate, decided.hints)


def _left_to_controller(decision: Decision) -> Decision:
    gate, verdict = decision.gate, decision.verdict
    if not verdict.outcome.good or verdict.reason is Reason.BYPASSED or gate.policy.mode is Mode.AUDIT:
        return decision
    if decision.required.expected is None or not is_announced_against(
        gate, decision.required, decision.snapshot.ledger
    ):
        return decision
    text = f"a contract migration of ledger {gate.name} waits for older pods: the controller decides about this one"
    return replace(decision, verdict=Verdict(Reason.UNDECIDED, Outcome.HOLD, text, gate.name))


UNSELECTED = Verdict(Reason.UNSELECTED, Outcome.ADMIT, "no LedgerGate selects this pod")
AWAITING = Verdict(
    Reason.UNSELECTED,
    Outcome.HOLD,
    f"no LedgerGate selects this pod, and label {UNDECLARED_LABEL}={WAIT} of its namespace has it wait for one: it "
    f"starts in a few seconds if none appears, at once with annotation {UNDECLARED}={START} on its template",
)


def await_gate(pod: Pod, decided: PodVerdict) -> PodVerdict:
    """Return the verdict on a pod in a namespace with label ``ledgergate.dev/undeclared: wait``.

    While its gate is missing, a pod whose image alone declares a revision looks like a pod that needs nothing. So each
    pod that no gate selects waits, as a pod that declares a revision does in any namespace; the controller limits the
    wait.

    A migrator does not wait, since the other pods wait for it. A pod whose annotation says that it needs no ledger does
    not wait either. A Job's pod waits: a gate can select it by its labels just as a Deployment's pod, and a gate with
    an empty selector selects every pod.
    """
    if decided.final is not UNSELECTED or MIGRATES in pod.annotations or needs_nothing(pod):
        return decided
    return replace(decided, final=AWAITING)


def decide_pod(
    pod: Pod, gates: Iterable[tuple[Gate, LedgerSnapshot]], now: datetime, images: ImageView = STATUS_IMAGES
) -> PodVerdict:
    """Decide whether a pod may run.

    Args:
        gates: the gates that select the pod, each with what is known of its ledger.
        now: aware.
        images: what is known of the pod's images.
    """
    by_gate = []
    for gate, snapshot in gates:
        required = read_required(pod, gate, images)
        by_gate.append(Decision(gate, snapshot, required, decide(gate, required, snapshot, now)))
    final = strictest(decision.verdict for decision in by_gate)
    hints = find_near_misses(pod, [decision.gate for decision in by_gate])
    return PodVerdict(_with_hint(final, hints) if final else _unselected(pod), tuple(by_gate), hints)


def _with_hint(verdict: Verdict, hints: Sequence[str]) -> Verdict:
    """Return the verdict, with the first hint in its message where it is bad."""
    if not hints or verdict.outcome.good:
        return verdict
    return replace(verdict, message=f"{verdict.message}; {hints[0]}")


def strictest(verdicts: Iterable[Verdict]) -> Verdict | None:
    """Return the strictest verdict, whatever their order; of equally strict ones the first by its gate's name."""
    return min(verdicts, key=lambda verdict: (-verdict.outcome, verdict.gate), default=None)


def _unselected(pod: Pod) -> Verdict:
    if not declares_revision(pod):
        return UNSELECTED
    # Helm creates custom resources after Deployments, so the pod's gate may not exist yet. The controller limits the
    # wait to a few seconds.
    text = "the pod declares a revision, but no LedgerGate selects it: it starts in a few seconds if none appears"
    return Verdict(Reason.UNSELECTED, Outcome.HOLD, text)
