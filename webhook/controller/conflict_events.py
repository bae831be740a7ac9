"""Events on pods whose annotation or environment variable contradicts the label of their image, which decides."""

from webhook.api.objects import Pod
from webhook.controller.events import Event, EventSink, Reference
from webhook.core.pod_verdict import PodVerdict

MAX_REMEMBERED = 10_000
"""Conflicts remembered as reported. Forgetting them costs one more Event for each rollout."""


class ConflictEvents:
    """Reports each conflict on one pod of a rollout.

    Watches nothing itself: the release reconciler passes on its verdicts. Writes Events on pods.
    """

    def __init__(self, emit: EventSink) -> None:
        self._emit = emit
        self._reported: set[tuple[str, str, str]] = set()

    def report(self, pod: Pod, decided: PodVerdict) -> None:
        """Emit an Event for each conflict that was not reported for the pod's owner before."""
        owner = pod.metadata.owner
        subject = owner.uid if owner else pod.metadata.uid
        for each in decided.by_gate:
            key = (subject, each.gate.name, each.required.conflict)
            if not each.required.conflict or key in self._reported:
                continue
            if len(self._reported) >= MAX_REMEMBERED:
                self._reported.clear()
            self._reported.add(key)
            note = f"LedgerGate {each.gate.name}: {each.required.conflict}"
            self._emit(Event(Reference.pod(pod.metadata), "Judge", "ImageCounts", note, warning=True))
