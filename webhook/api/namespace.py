"""Namespaces, and the labels by which they opt in."""

from dataclasses import dataclass
from enum import StrEnum

from webhook.api.objects import Metadata, Struct

ADMISSION_LABEL = "ledgergate.dev/admission"
UNDECLARED_LABEL = "ledgergate.dev/undeclared"
WAIT = "wait"
"""The one value of :data:`UNDECLARED_LABEL`: a pod that declares nothing waits for its LedgerGate, too. It is not a
value of :data:`ADMISSION_LABEL`: an installation that does not know it would treat the namespace as opted out."""


class Namespace(Struct, frozen=True):
    """A namespace's metadata."""

    metadata: Metadata = Metadata()


class OptIn(StrEnum):
    """The value of a namespace's label ``ledgergate.dev/admission``."""

    ENABLED = "enabled"
    AUDIT = "audit"
    OFF = ""

    @classmethod
    def of(cls, namespace: Namespace) -> "OptIn":
        """Read a namespace's label; an unknown value is OFF, as in the webhooks' selectors."""
        value = (namespace.metadata.labels or {}).get(ADMISSION_LABEL)
        return cls(value) if value in set(cls) else cls.OFF


@dataclass(frozen=True, slots=True)
class NamespaceLabels:
    """What a namespace's labels ask of ledgergate.

    Args:
        waits: whether a pod that declares nothing waits for its LedgerGate, too.
    """

    admission: OptIn = OptIn.OFF
    waits: bool = False

    @classmethod
    def of(cls, namespace: Namespace) -> "NamespaceLabels":
        """Read a namespace's labels; an unknown value counts as a missing label."""
        value = (namespace.metadata.labels or {}).get(UNDECLARED_LABEL)
        return cls(OptIn.of(namespace), value == WAIT)
