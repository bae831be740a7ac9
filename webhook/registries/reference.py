"""Image references, as Docker and Kubernetes read them. Pure.

Source: the grammar of https://pkg.go.dev/github.com/distribution/reference, and
https://kubernetes.io/docs/concepts/containers/images/#image-names.

ValueError
└── ImageReferenceError   a text that is no reference of an image
"""

import re
from dataclasses import dataclass
from typing import Self

from webhook.registries.urls import is_ipv6

DOCKER_HUB = "docker.io"
_MAX_TEXT = 512  # a name has 255 characters at most, a tag 128, a digest 135
_MAX_NAME = 255
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?P<address>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{{1,5}}))?")
_PORTS = range(65536)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
"""The digests that a content can be verified with."""


class ImageReferenceError(ValueError):
    """A text that is no reference of an image; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class ImageReference:
    """Where an image is.

    Args:
        registry: host, with the port where one is named: ``ghcr.io``, ``localhost:5000``; Docker Hub is ``docker.io``.
        repository: name of the repository, ``library/postgres`` for Docker Hub's ``postgres``.
        tag: the tag; None where a digest alone names the image.
        digest: the digest that the content must have; None where the tag decides.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference such as ``postgres``, ``ghcr.io/shop/gateway:2`` or ``registry:5000/shop@sha256:…``.

        Raises:
            ImageReferenceError: it is not one.
        """
        if len(text) > _MAX_TEXT:
            raise _malformed(text)
        name, at, digest = text.partition("@")
        first, slash, rest = name.partition("/")
        named = bool(slash) and ("." in first or ":" in first or first.lower() == "localhost")
        registry, remainder = (first, rest) if named else (DOCKER_HUB, name)
        repository, colon, tag = remainder.partition(":")
        registry = (
            registry.lower().removeprefix("index.") if registry.lower() == "index.docker.io" else registry.lower()
        )
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        if (
            not is_registry(registry)
            or not _REPOSITORY.fullmatch(repository)
            or len(f"{registry}/{repository}") > _MAX_NAME
            or (colon and not _TAG.fullmatch(tag))
            or (at and not DIGEST.fullmatch(digest))
        ):
            raise _malformed(text)
        return cls(registry, repository, tag or (None if at else "latest"), digest or None)

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def is_registry(text: str) -> bool:
    """Return whether a text is HOST[:PORT], as an image's name begins."""
    found = _REGISTRY.fullmatch(text)
    if found is None or int(found["port"] or 0) not in _PORTS:
        return False
    return found["address"] is None or is_ipv6(found["address"])


def _malformed(text: str) -> ImageReferenceError:
    shown = text if len(text) <= 80 else f"{text[:80]}…"  # noqa: PLR2004
    return ImageReferenceError(
        f"{shown!r} is not an image reference: expected NAME, NAME:TAG or NAME@sha256:DIGEST, where NAME is "
        "REPOSITORY of Docker Hub or HOST[:PORT]/REPOSITORY in small letters"
    )
