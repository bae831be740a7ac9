"""What a pod requires of one gate's ledger: an expected revision, unless it brings the migrations itself."""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from migrations.core.revision import LONGEST_TEXT, Revision, RevisionError, canonical
from webhook.api.namespace import UNDECLARED_LABEL
from webhook.api.objects import Pod
from webhook.core.contract_state import NOTHING, Brought
from webhook.core.images import UnknownImage
from webhook.core.variables import literal_value

REVISION = "ledgergate.dev/revision"
PER_GATE = "revision.ledgergate.dev/"
MIGRATES = "ledgergate.dev/migrates"
ANCESTORS = "ledgergate.dev/ancestors"
ANCESTORS_PER_GATE = "ancestors.ledgergate.dev/"
UNDECLARED, START = UNDECLARED_LABEL, "start"
"""Annotation of a pod that needs no ledger, and its one value. It exempts the pod from the
namespace's label of the same name, which has pods that declare nothing wait."""


MAX_ANCESTORS = 64 * 1024
"""Characters of the annotation with the ancestors, enough for 5,000 revisions of Alembic. A longer one counts as not
declared: with a part of the ancestors, an older ledger could be taken for a newer one."""
MAX_MIGRATES = 16 * 1024
"""Characters of the annotation with the gates whose migrations the pod brings: 60 of the longest names."""
_SHOWN = 200  # characters of an invalid revision that are kept for a message


class SourceKind(StrEnum):
    """Where a pod's expected revision was found."""

    NONE = ""
    IMAGE = "image"
    ANNOTATION = "annotation"
    VARIABLE = "variable"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a pod's expected revision was found.

    Args:
        name: the image with its digest, or the annotation's or the variable's name.
    """

    kind: SourceKind = SourceKind.NONE
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else ""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One pod's requirement of one ledger.

    Args:
        expected: the revision that the pod's image was built for; None where none is declared.
        invalid: the beginning of the declared revision, where it cannot be parsed; None otherwise.
        migrates: the pod carries the migrator for this gate.
        ancestors: the revisions that lead to the expected one; None where the pod does not declare them. Used only
            where the ledger's tool records heads without a history.
        brings: of a migrator, the contract migrations that it brings.
        source: where the expected revision, or the invalid one, was found.
        contract: label ``dev.ledgergate.contract`` of the image that counts; empty where there is none.
        unknown: an image that the gate asks and whose labels are not known; then `expected` are the pod's own words.
        problem: why no revision can be taken from the images; empty where one can.
        conflict: how the pod's own words differ from its image, which counts; empty where they agree.
        hint: why the gate found no revision in the images; empty where it does not ask them.
        images: the pod's images that are known, as they stand in the pod, each with its digest.
    """

    expected: Revision | None = None
    invalid: str | None = None
    migrates: bool = False
    ancestors: frozenset[str] | None = None
    brings: Brought = NOTHING
    source: Source = Source()
    contract: str = ""
    unknown: UnknownImage | None = None
    problem: str = ""
    conflict: str = ""
    hint: str = ""
    images: tuple[tuple[str, str], ...] = ()


def declares_revision(pod: Pod) -> bool:
    """Return whether the pod's annotations declare a revision, for whichever gate."""
    return any(name == REVISION or name.startswith(PER_GATE) for name in pod.annotations)


def needs_nothing(pod: Pod) -> bool:
    """Return whether the pod's annotation says that it waits for no LedgerGate."""
    return pod.annotations.get(UNDECLARED) == START


def read_requirement(pod: Pod, gate: str, expect_env: str | None = None) -> Requirement:
    """Read what a pod requires of a gate's ledger.

    Args:
        gate: the gate's name. The annotation ``revision.ledgergate.dev/<gate>`` overrides ``ledgergate.dev/revision``.
        expect_env: the environment variable that the gate names. It counts in any container, but only with a literal
            value or one composed of such values: a value from a ConfigMap or Secret is not known at admission.
    """
    migrates = MIGRATES in pod.annotations and gate in _names(pod.annotations[MIGRATES][:MAX_MIGRATES])
    declared, source = _declared_revision(pod, gate, expect_env)
    found = _NOT_DECLARED if declared is None else _declared(declared[: LONGEST_TEXT + 1], *source)
    ancestors = None if found.expected is None else _ancestors(pod, gate)
    if not migrates and ancestors is None:
        return found
    return replace(found, migrates=migrates, ancestors=ancestors)


_NOT_DECLARED = Requirement()


def parse_declared(text: str) -> Revision | None:
    """Return a declared revision; None where the text is not a revision."""
    return _parse(text[: LONGEST_TEXT + 1])


def parse_ancestors(text: str | None) -> frozenset[str] | None:
    """Return declared ancestors; None where there are none, or too many."""
    return None if text is None or len(text) > MAX_ANCESTORS else _canonical_names(text)


def _ancestors(pod: Pod, gate: str) -> frozenset[str] | None:
    for annotation in (f"{ANCESTORS_PER_GATE}{gate}", ANCESTORS):
        if annotation in pod.annotations:
            return parse_ancestors(pod.annotations[annotation])
    return None


# All gates that select a pod read the same annotations, and all pods of a Deployment have the same ones: each text is
# cut to its limit, which bounds the cache's memory, and parsed once.


@lru_cache(maxsize=16)
def _canonical_names(text: str) -> frozenset[str]:
    return frozenset(map(canonical, _split(text)))


@lru_cache(maxsize=64)
def _names(text: str) -> frozenset[str]:
    return frozenset(_split(text))


@lru_cache(maxsize=1024)
def _declared(text: str, kind: SourceKind, name: str) -> Requirement:
    """Return the requirement of a pod that declares a revision and nothing else."""
    expected = parse_declared(text)
    if expected is None:
        return Requirement(invalid=text[:_SHOWN], source=Source(kind, name))
    return Requirement(expected=expected, source=Source(kind, name))


@lru_cache(maxsize=1024)
def _parse(text: str) -> Revision | None:
    try:
        return Revision.parse(text)
    except RevisionError:
        return None


def _split(text: str) -> list[str]:
    """Split a comma-separated annotation."""
    return [name for part in text.split(",") if (name := part.strip())]


def _declared_revision(pod: Pod, gate: str, expect_env: str | None) -> tuple[str | None, tuple[SourceKind, str]]:
    for annotation in (f"{PER_GATE}{gate}", REVISION):
        if annotation in pod.annotations:
            return pod.annotations[annotation], (SourceKind.ANNOTATION, annotation)
    if expect_env is not None:
        for container in [*(pod.spec.containers or []), *(pod.spec.init_containers or [])]:
            if (value := literal_value(container, expect_env)) is not None:
                return value, (SourceKind.VARIABLE, expect_env)
    return None, (SourceKind.NONE, "")
