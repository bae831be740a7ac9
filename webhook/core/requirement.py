"""What a pod requires of one gate's ledger: its expected revision, or that it brings the migrations itself."""

from dataclasses import dataclass

from migrations.core.revision import Revision, RevisionError, canonical
from webhook.api.objects import Pod

REVISION = "ledgergate.dev/revision"
PER_GATE = "revision.ledgergate.dev/"
MIGRATES = "ledgergate.dev/migrates"
ANCESTORS = "ledgergate.dev/ancestors"
ANCESTORS_PER_GATE = "ancestors.ledgergate.dev/"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one pod requires of one ledger.

    Args:
        expected: the revision that the pod's image was built for; None where none is declared.
        invalid: a declaration that cannot be read, as it stands; None where there is none.
        migrates: the pod carries the migrator for this gate.
        ancestors: the revisions that lead to the expected one; None where the pod does not declare them. Of use only
            where the ledger's tool records heads without a history.
    """

    expected: Revision | None = None
    invalid: str | None = None
    migrates: bool = False
    ancestors: frozenset[str] | None = None


def declares(pod: Pod) -> bool:
    """Tell whether a pod says by annotation that it expects a revision of some ledger, whichever gate that is for."""
    return any(name == REVISION or name.startswith(PER_GATE) for name in pod.annotations)


def requirement(pod: Pod, gate: str, expect_env: str | None = None) -> Requirement:
    """Find what a pod requires of a gate.

    Args:
        pod: the pod.
        gate: its name. The annotation ``revision.ledgergate.dev/<gate>`` goes before ``ledgergate.dev/revision``.
        expect_env: the environment variable that the gate names, looked for in any container, literal values only
            (a value from a ConfigMap or Secret is not known at admission).
    """
    migrates = gate in _listed(pod, MIGRATES)
    declared = _declared(pod, gate, expect_env)
    if declared is None:
        return Requirement(migrates=migrates)
    try:
        expected = Revision.parse(declared)
    except RevisionError:
        return Requirement(invalid=declared, migrates=migrates)
    return Requirement(expected=expected, migrates=migrates, ancestors=_ancestors(pod, gate))


def _ancestors(pod: Pod, gate: str) -> frozenset[str] | None:
    for annotation in (f"{ANCESTORS_PER_GATE}{gate}", ANCESTORS):
        if annotation in pod.annotations:
            return frozenset(map(canonical, _listed(pod, annotation)))
    return None


def _listed(pod: Pod, annotation: str) -> list[str]:
    """Give the names of a comma-separated annotation."""
    return [name for part in pod.annotations.get(annotation, "").split(",") if (name := part.strip())]


def _declared(pod: Pod, gate: str, expect_env: str | None) -> str | None:
    for annotation in (f"{PER_GATE}{gate}", REVISION):
        if annotation in pod.annotations:
            return pod.annotations[annotation]
    if expect_env is None:
        return None
    for container in [*(pod.spec.containers or []), *(pod.spec.init_containers or [])]:
        for variable in container.env or []:
            if variable.name == expect_env and variable.value is not None:
                return variable.value
    return None
