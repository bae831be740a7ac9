"""Manifests, indexes and config blobs, as far as the labels need them. Pure.

Sources: https://github.com/opencontainers/image-spec (manifest.md, image-index.md, config.md), and
https://distribution.github.io/distribution/spec/manifest-v2-2/ for Docker's.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from migrations.core.contract import ContractError, parse_contracts
from migrations.core.declaration import ANCESTORS_LABEL, CONTRACT_LABEL, MAX_ANCESTORS, REVISION_LABEL
from migrations.core.revision import Revision, RevisionError
from webhook.registries.reference import DIGEST
from webhook.registries.result import Platform, RegistryFailure, UnresolvedReason

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json", "application/json"}
)
ACCEPT = ", ".join((*INDEXES, *MANIFESTS))
_UNSUPPORTED_REMEDY = "build and push the image with a current tool"
_BROKEN_REMEDY = "push the image again, or look what the registry's log says"
_SHOWN = 200


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    pass


class DescribedPlatform(_Document, frozen=True):
    """The platform in a descriptor."""

    os: str = ""
    architecture: str = ""
    variant: str = ""


class Descriptor(_Document, frozen=True):
    """What a manifest says of a content."""

    digest: str
    size: int
    media_type: str = ""
    platform: DescribedPlatform | None = None
    annotations: dict[str, str] | None = None


class Manifest(_Document, frozen=True):
    """A manifest of one image, or an index of several."""

    schema_version: int = 2
    media_type: str = ""
    config: Descriptor | None = None
    layers: list[msgspec.Raw] | None = None
    manifests: list[Descriptor] | None = None


class _ContainerConfig(msgspec.Struct, frozen=True):
    Labels: dict[str, str] | None = None


class ImageConfig(msgspec.Struct, frozen=True):
    """A config blob."""

    config: _ContainerConfig | None = None
    os: str = ""
    architecture: str = ""
    variant: str = ""

    @property
    def platform(self) -> Platform:
        """What the image is built for."""
        return Platform(_bounded(self.os), _bounded(self.architecture), _bounded(self.variant))


Labels = tuple[str | None, str, str | None]
"""The labels for revision, contract and ancestors."""

DocumentType = TypeVar("DocumentType", Manifest, ImageConfig)


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of a content."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def check_digest(digest: str, what: str) -> None:
    """Check the form of a digest, before it becomes a part of a path or names an algorithm.

    Raises:
        RegistryFailure: it is no digest of sha256 or sha512.
    """
    if not DIGEST.fullmatch(digest):
        raise RegistryFailure(UnresolvedReason.MALFORMED, f"{what} has no digest of sha256 or sha512", _BROKEN_REMEDY)


def verify(content: bytes, digest: str, what: str) -> None:
    """Compare a content with its digest.

    Raises:
        RegistryFailure: they differ, or the digest is not one of sha256 or sha512.
    """
    check_digest(digest, what)
    if digest_of(content, digest.partition(":")[0]) != digest:
        raise RegistryFailure(
            UnresolvedReason.WRONG_DIGEST,
            f"{what} is not what its digest says",
            "the registry, a mirror or a proxy has altered or damaged it: push the image again",
        )


def decode_manifest(content: bytes) -> Manifest:
    """Read a manifest or an index.

    Raises:
        RegistryFailure: it is neither, or could be taken for both (CVE-2021-41190).
    """
    manifest = _decode(content, Manifest, "the manifest")
    if manifest.schema_version != 2:  # noqa: PLR2004
        raise RegistryFailure(
            UnresolvedReason.UNSUPPORTED, "the image has a manifest of Docker's schema 1", _UNSUPPORTED_REMEDY
        )
    is_index, is_image = manifest.manifests is not None, manifest.config is not None or manifest.layers is not None
    says_index = manifest.media_type in INDEXES
    if is_index is is_image or (manifest.media_type and says_index is not is_index):
        raise RegistryFailure(
            UnresolvedReason.UNSUPPORTED,
            "what the registry has under this name is neither an image nor an index of images",
            _UNSUPPORTED_REMEDY,
        )
    return manifest


def config_of(manifest: Manifest) -> Descriptor:
    """Return the descriptor of an image's config blob.

    Raises:
        RegistryFailure: it is not the manifest of a container image.
    """
    if manifest.config is None or manifest.config.media_type not in _CONFIGS:
        raise RegistryFailure(
            UnresolvedReason.UNSUPPORTED,
            "what the registry has under this name is an artifact and no container image",
            "name the image that the pod runs",
        )
    check_digest(manifest.config.digest, "the image's configuration")
    return manifest.config


def decode_config(content: bytes) -> ImageConfig:
    """Read a config blob.

    Raises:
        RegistryFailure: it is not one.
    """
    return _decode(content, ImageConfig, "the image's configuration")


def images_of(index: Manifest, platforms: Sequence[Platform], limit: int) -> list[Descriptor]:
    """Return the images of an index to read: those for the given platforms, or all.

    Attestations, which builders put beside an image with the platform unknown/unknown, are left out.

    Args:
        index: the index.
        platforms: of the nodes; empty for all.
        limit: how many images there may be.

    Raises:
        RegistryFailure: there is none for these platforms, or there are too many.
    """
    images = [each for each in index.manifests or () if _is_image(each)]
    chosen = [each for each in images if not platforms or any(node.runs(_platform(each)) for node in platforms)]
    if not chosen:
        built = ", ".join(sorted({str(_platform(each)) for each in images})[:limit]) or "nothing"
        wanted = " or ".join(map(str, platforms)) or "any platform"
        raise RegistryFailure(
            UnresolvedReason.NO_PLATFORM,
            f"the image is not built for {wanted}, it is built for {built}"[: _SHOWN * 2],
            "build it for the platform of the nodes",
        )
    if len(chosen) > limit:
        raise RegistryFailure(
            UnresolvedReason.TOO_LARGE,
            f"the image has {len(chosen)} platforms, of which at most {limit} are compared",
            "name an image of fewer platforms",
        )
    for each in chosen:
        check_digest(each.digest, "an image of the index")
    return chosen


def labels_of(config: ImageConfig) -> Labels:
    """Return the labels for revision, contract and ancestors of an image.

    Raises:
        RegistryFailure: a label is longer than it may be, or has another form.
    """
    labels = (config.config and config.config.Labels) or {}
    revision, contract = labels.get(REVISION_LABEL), labels.get(CONTRACT_LABEL, "")
    ancestors = labels.get(ANCESTORS_LABEL)
    try:
        if revision is not None:
            revision = str(Revision.parse(revision))
        parse_contracts(contract)
    except RevisionError as error:
        raise _invalid(REVISION_LABEL, str(error)) from error
    except ContractError as error:
        raise _invalid(CONTRACT_LABEL, str(error)) from error
    if ancestors is not None and (len(ancestors) > MAX_ANCESTORS or not ancestors.isprintable()):
        raise _invalid(ANCESTORS_LABEL, f"expected at most {MAX_ANCESTORS} printable characters")
    return revision, contract, ancestors


def _invalid(label: str, problem: str) -> RegistryFailure:
    return RegistryFailure(
        UnresolvedReason.INVALID_LABEL,
        f"the image's label {label} cannot be read: {problem[:400]}",
        "build the image with `ledgergate migrate revision --output labels`",
    )


def _is_image(descriptor: Descriptor) -> bool:
    platform = descriptor.platform
    attestation = "vnd.docker.reference.type" in (descriptor.annotations or {})
    unknown = platform is not None and platform.architecture == "unknown"
    return descriptor.media_type in {*MANIFESTS, ""} and not attestation and not unknown


def _platform(descriptor: Descriptor) -> Platform:
    found = descriptor.platform or DescribedPlatform()
    return Platform(_bounded(found.os), _bounded(found.architecture), _bounded(found.variant))


def _bounded(text: str) -> str:
    """Return a registry's text as a message may show it; `unknown` for one that is long or not printable ASCII."""
    return text if len(text) <= 32 and text.isascii() and text.isprintable() else "unknown"  # noqa: PLR2004


def _decode(content: bytes, kind: type[DocumentType], what: str) -> DocumentType:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryFailure(
            UnresolvedReason.MALFORMED, f"{what} is not JSON of the form that its specification gives", _BROKEN_REMEDY
        ) from error
