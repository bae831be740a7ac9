"""Namespaces, and the label by which they opt in."""

from enum import StrEnum

from webhook.api.objects import Metadata, Struct

ADMISSION_LABEL = "ledgergate.dev/admission"


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
