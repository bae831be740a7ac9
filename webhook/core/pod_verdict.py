"""Decide whether a pod may run under every gate that selects it.

Admission, release and readiness all decide here or, about one gate, by :func:`webhook.core.verdict.decide`. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from migrations.core.snapshot import LedgerSnapshot
from webhook.api.objects import Pod
from webhook.core.expectation import read_expectation
from webhook.core.gate import Gate, Mode
from webhook.core.images import STATUS_IMAGES, ImageView, has_tag
from webhook.core.requirement import Requirement, declares_revision
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
    """

    final: Verdict
    by_gate: tuple[Decision, ...] = ()

    @property
    def pins(self) -> Mapping[str, str]:
        """The images to pin: by the image with its tag, as it stands in the pod, the same with its digest."""
        return {
            reference: image
            for each in self.by_gate
            if each.gate.expect_image and each.gate.expect_image.pin and each.gate.policy.mode is Mode.ENFORCE
            for reference, image in each.required.images
            if has_tag(reference)
        }


UNSELECTED = Verdict(Reason.UNSELECTED, Outcome.ADMIT, "no LedgerGate selects this pod")


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
        required = read_expectation(pod, gate, images)
        by_gate.append(Decision(gate, snapshot, required, decide(gate, required, snapshot, now)))
    final = strictest(decision.verdict for decision in by_gate)
    return PodVerdict(final or _unselected(pod), tuple(by_gate))


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
