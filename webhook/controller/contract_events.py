"""Events about contract migrations: on the migrator's owner, usually a Job, and on the migrator itself."""

from webhook.api.objects import Metadata, Pod
from webhook.controller.events import Event, EventSink, Reference
from webhook.core.contract_plan import Candidate
from webhook.core.contract_state import ContractStep
from webhook.core.gate import Gate
from webhook.core.living import still_needed_text
from webhook.telemetry import log_event

_SHOWN = 120  # characters of a name in a note


class ContractEvents:
    """Emits one Event when a migrator begins to wait, and one when it is released.

    Watches nothing itself: the contract reconciler reports both.
    """

    def __init__(self, emit: EventSink) -> None:
        self._emit = emit

    def waits(self, gate: Gate, migrator: Pod | None, candidate: Candidate) -> None:
        """Report that a migrator is held, and for which pods."""
        if migrator is None or not candidate.living.needed:
            return
        step = candidate.step
        note = still_needed_text(gate.name, step.revision, step.compatible_from, candidate.living.groups, shown_name)
        self._report(migrator, "Hold", "StillNeeded", f"{note}: the migrator is held until they are gone")
        log_event("contract.waits", gate="/".join(gate.key), contract=step.revision, pods=candidate.living.needed)

    def released(self, gate: Gate, migrator: Pod, step: ContractStep) -> None:
        """Report that no living pod needs the old schema."""
        note = (
            f"no living pod under LedgerGate {gate.name} expects less than {shown_name(step.compatible_from)}: "
            f"contract migration {shown_name(step.revision)} may be applied, and such pods are refused from now on"
        )
        self._report(migrator, "Release", "ContractReleased", note)
        log_event("contract.released", gate="/".join(gate.key), contract=step.revision)

    def _report(self, migrator: Pod, action: str, reason: str, note: str) -> None:
        uid, owner = migrator.metadata.uid, migrator.metadata.owner
        self._emit(Event(Reference.pod(migrator.metadata), action, reason, note, dedup_key=uid))
        if owner is not None:
            metadata = Metadata(namespace=migrator.metadata.namespace, name=owner.name, uid=owner.uid)
            self._emit(Event(Reference(owner.api_version, owner.kind, metadata), action, reason, note, dedup_key=uid))


def shown_name(text: str) -> str:
    """Return a name, cut to what a note has room for, without control characters."""
    clean = "".join(character if character.isprintable() else "?" for character in text[: _SHOWN + 1])
    return clean if len(clean) <= _SHOWN else f"{clean[: _SHOWN - 1]}…"
