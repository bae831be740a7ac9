"""What the gates' statuses say of images: admission's view, without a registry."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from webhook.api.objects import Pod
from webhook.core.expectation import STATUS_IMAGES
from webhook.core.gate import Gate
from webhook.core.images import ImageRecord, UnknownImage, has_tag


class Leadership(Protocol):
    """The controller that leads, if any."""

    @property
    def leads(self) -> bool:
        """Whether there is one."""


class RecordedImages:
    """The images in the gates' statuses.

    A tag that was not looked up for a minute counts as unknown, as long as a controller leads: it looks the tag up, and
    releases the pod. Without one, the digest of the last lookup counts: an outage must not keep running versions down.
    A gate that pins leaves every tag to the controller, which puts the digest in its place.

    Args:
        leader: shows whether a controller leads.
        now: the clock, aware.
    """

    def __init__(self, leader: Leadership, now: Callable[[], datetime]) -> None:
        self._leader = leader
        self._now = now

    def find(self, gate: Gate, pod: Pod, reference: str) -> ImageRecord | UnknownImage:
        """Return what an image of a pod says, as far as it is recorded."""
        found = STATUS_IMAGES.find(gate, pod, reference)
        if isinstance(found, UnknownImage) or not has_tag(reference):
            return found
        if gate.expect_image is not None and gate.expect_image.pin:
            return UnknownImage(reference)
        return UnknownImage(reference) if self._leader.leads and not found.fresh(self._now()) else found
