"""What is known of the images of a gate's pods: the labels by which they declare revisions. Pure.

The controller reads the labels from registries and records them in the gate's ``status.images``, so that each webhook
replica, and each process that was restarted, knows them without asking a registry.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from webhook.api.objects import ImageEntry, Pod

REFRESH = timedelta(minutes=1)
"""How long a tag counts as leading to the digest of its last lookup, while a controller can look it up again."""

IMAGES = 50
"""Images kept in ``status.images``, the newest ones."""

REFERENCES = 8
"""Names of one image that are kept, the newest ones: a tag for each build of the same content is unusual."""

MAX_IMAGES_TEXT = 256 * 1024
"""Characters of all labels in ``status.images``: an object in etcd has 1.5 MB at most. What does not fit is known to
the controller alone, which then releases the image's pods."""


@dataclass(frozen=True, slots=True)
class ExpectedImage:
    """``spec.expect.image`` of a gate.

    Args:
        container: the container whose image is asked; None for the image of each container.
        pin: a pod with a tag is held, and released with the digest that was judged in its place.
    """

    container: str | None = None
    pin: bool = False


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What one image says of itself.

    Args:
        image: its name with the digest that was read, ``ghcr.io/shop/gateway@sha256:…``.
        revision: label ``dev.ledgergate.revision``; None where it has none.
        contract: label ``dev.ledgergate.contract``; empty where it has none.
        ancestors: label ``dev.ledgergate.ancestors``; None where it has none.
        references: the names with tags under which pods had it, as they stand in the pods, newest last.
        resolved_at: when the labels were read (RFC 3339).
        checked_at: when a tag was last looked up (RFC 3339).
    """

    image: str
    revision: str | None = None
    contract: str = ""
    ancestors: str | None = None
    references: tuple[str, ...] = ()
    resolved_at: str = ""
    checked_at: str = ""

    @property
    def digest(self) -> str:
        """The digest with its algorithm, ``sha256:…``."""
        return self.image.rpartition("@")[2]

    def fresh(self, now: datetime) -> bool:
        """Return whether a tag was looked up less than `REFRESH` ago."""
        try:
            return now - datetime.fromisoformat(self.checked_at) < REFRESH
        except (ValueError, TypeError):
            return False


@dataclass(frozen=True, slots=True)
class UnknownImage:
    """An image whose labels are not known.

    Args:
        reference: the image, as it stands in the pod.
        message: why it cannot be read, and what to do; empty while it is being read.
        contradictory: it was read, and no revision can be taken from what it says.
    """

    reference: str
    message: str = ""
    contradictory: bool = False


def image_key(reference: str) -> str:
    """Return what an image is known by: its digest, which decides whatever the name is, else the name with the tag."""
    return reference.rpartition("@")[2] if "@sha256:" in reference or "@sha512:" in reference else reference


def has_tag(reference: str) -> bool:
    """Return whether a tag names the image, and not a digest."""
    return image_key(reference) is reference


def pod_images(pod: Pod, expected: ExpectedImage) -> Iterator[tuple[str, ...]]:
    """Yield, for each image that the gate asks, the references that name it, the one that counts most first.

    What the kubelet has pulled (``status.containerStatuses[].imageID``) counts more than the tag in the spec.
    """
    pulled = {
        each.name: each.image_id.removeprefix("docker-pullable://")
        for each in (*(pod.status.container_statuses or ()), *(pod.status.init_container_statuses or ()))
        if "@sha256:" in each.image_id
    }
    for container in (*(pod.spec.containers or ()), *(pod.spec.init_containers or ())):
        if container.image and expected.container in {None, container.name}:
            own = pulled.get(container.name)
            yield (own, container.image) if own else (container.image,)


def index_images(entries: Iterable[ImageEntry]) -> Mapping[str, ImageRecord]:
    """Return the images of a status, by digest and by each of their names."""
    found: dict[str, ImageRecord] = {}
    for each in entries:
        record = ImageRecord(
            each.image,
            each.revision,
            each.contract,
            each.ancestors,
            tuple(each.references),
            each.resolved_at,
            each.checked_at,
        )
        for name in (record.digest, *record.references):
            found[name] = record
    return found


def format_images(records: Iterable[ImageRecord]) -> list[dict[str, Any]]:
    """Return ``status.images``.

    Args:
        records: the images, the one that was read last at the end. The first ones are left out where there are too
            many, or their labels are too long.
    """
    entries: list[dict[str, Any]] = []
    room = MAX_IMAGES_TEXT
    for each in reversed([*records][-IMAGES:]):
        room -= len(each.image) + len(each.revision or "") + len(each.contract) + len(each.ancestors or "")
        if room < 0:
            continue
        entry: dict[str, Any] = {"image": each.image, "references": list(each.references)}
        if each.revision is not None:
            entry["revision"] = each.revision
        if each.contract:
            entry["contract"] = each.contract
        if each.ancestors is not None:
            entry["ancestors"] = each.ancestors
        entries.append(entry | {"resolvedAt": each.resolved_at, "checkedAt": each.checked_at})
    return entries[::-1]
