"""A namespace, and what its label asks of us."""

from enum import StrEnum

from webhook.api.objects import Metadata, Struct

ADMISSION_LABEL = "ledgergate.dev/admission"


class Namespace(Struct, frozen=True):
    """A namespace, as far as its labels go."""

    metadata: Metadata = Metadata()


class OptIn(StrEnum):
    """What a namespace's label ``ledgergate.dev/admission`` asks for."""

    ENABLED = "enabled"
    AUDIT = "audit"
    OFF = ""

    @classmethod
    def of(cls, namespace: Namespace) -> "OptIn":
        """Read the label; any other value than ours opts nothing in, as in the webhooks' selectors."""
        value = (namespace.metadata.labels or {}).get(ADMISSION_LABEL)
        return cls(value) if value in set(cls) else cls.OFF
