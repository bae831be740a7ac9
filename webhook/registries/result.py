"""What asking a registry for an image's labels results in. Pure.

Exception
└── RegistryFailure   inside this package only: carries the `Unresolved` that the client returns
"""

from dataclasses import dataclass, field
from enum import StrEnum


class UnresolvedReason(StrEnum):
    """Why the labels of an image are not known."""

    INVALID_REFERENCE = "InvalidReference"
    NOT_ALLOWED = "NotAllowed"
    """The registry is not among those that may be asked."""
    ADDRESS_REFUSED = "AddressRefused"
    """The registry, a redirect or a token server has an address that is never connected to."""
    UNREACHABLE = "Unreachable"
    """No connection, no name, no answer in time, or an error of the registry's own."""
    UNTRUSTED = "Untrusted"
    """The registry's certificate is not valid."""
    RATE_LIMITED = "RateLimited"
    UNAUTHORIZED = "Unauthorized"
    NOT_FOUND = "NotFound"
    TOO_LARGE = "TooLarge"
    WRONG_DIGEST = "WrongDigest"
    """The content is not what its digest says."""
    MALFORMED = "Malformed"
    """An answer that the specification does not allow."""
    UNSUPPORTED = "Unsupported"
    """Not an image, or in a format that is no longer written."""
    NO_PLATFORM = "NoPlatform"
    """The image is not built for the platform of the nodes."""
    LABELS_DISAGREE = "LabelsDisagree"
    """The image's platforms have different labels."""
    INVALID_LABEL = "InvalidLabel"


_TRANSIENT = frozenset({UnresolvedReason.UNREACHABLE, UnresolvedReason.RATE_LIMITED})


@dataclass(frozen=True, slots=True)
class Unresolved:
    """The labels of an image are not known.

    Args:
        reason: one word, for metrics and conditions.
        message: what was expected and what is there, half a sentence; without addresses, credentials and the
            registry's own text.
        remedy: what to do about it.
        retry_after: seconds that the registry asks to be left alone; None where it says nothing.
    """

    reason: UnresolvedReason
    message: str
    remedy: str
    retry_after: float | None = field(default=None, compare=False)

    @property
    def transient(self) -> bool:
        """Whether asking again may help although nothing was changed."""
        return self.reason in _TRANSIENT

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


class RegistryFailure(Exception):  # noqa: N818 - named after what happened
    """Ends the reading of an image.

    Args:
        unresolved: what the client returns.
    """

    def __init__(self, reason: UnresolvedReason, message: str, remedy: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.unresolved = Unresolved(reason, message, remedy, retry_after)


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image is built for.

    Args:
        os: operating system, such as ``linux``.
        architecture: such as ``amd64``; Go's names.
        variant: such as ``v7`` of ``arm``; empty where there is none.
    """

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> "Platform":
        """Read ``OS/ARCHITECTURE[/VARIANT]``.

        Raises:
            ValueError: it has another form.
        """
        parts = text.split("/")
        if len(parts) not in {2, 3} or not all(part and part.isascii() and part.isprintable() for part in parts):
            raise ValueError(f"expected a platform such as linux/amd64 or linux/arm/v7, got {text!r}")
        return cls(*parts)

    def runs(self, other: "Platform") -> bool:
        """Return whether a node of this platform runs an image that is built for another."""
        same = (self.os, self.architecture) == (other.os, other.architecture)
        return same and (not self.variant or not other.variant or self.variant == other.variant)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@dataclass(frozen=True, slots=True)
class PlatformImage:
    """One platform's image of an index.

    Args:
        platform: what it is built for.
        digest: digest of its manifest.
    """

    platform: Platform
    digest: str


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """What an image says of itself.

    Args:
        reference: the image with the digest that was read, ``ghcr.io/shop/gateway@sha256:…``.
        digest: of the manifest or the index that the reference names.
        revision: label ``dev.ledgergate.revision``, a revision that can be parsed; None where there is none.
        contract: label ``dev.ledgergate.contract``, which can be parsed; empty where there is none.
        ancestors: label ``dev.ledgergate.ancestors``; None where there is none.
        platforms: the images of an index that were read, or the single image.
    """

    reference: str
    digest: str
    revision: str | None = None
    contract: str = ""
    ancestors: str | None = None
    platforms: tuple[PlatformImage, ...] = ()
