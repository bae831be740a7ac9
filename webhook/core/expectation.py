"""What a pod requires of one gate's ledger: by its image's label where the gate asks the image, else by its own words.

Pure.
"""

from dataclasses import replace
from typing import Protocol

from migrations.core.revision import Revision
from webhook.api.objects import Pod
from webhook.core.gate import Gate
from webhook.core.images import ExpectedImage, ImageRecord, UnknownImage, image_key, pod_images
from webhook.core.requirement import Requirement, Source, SourceKind, parse_ancestors, parse_declared, read_requirement

_SHOWN = 80  # characters of a name or a revision in a message


class ImageView(Protocol):
    """What is known of the images of a gate's pods."""

    def find(self, gate: Gate, pod: Pod, reference: str) -> ImageRecord | UnknownImage:
        """Return what an image of a pod says.

        Args:
            reference: the image, as it stands in the pod.
        """


class StatusImages:
    """What the gates' statuses say, however long ago a tag was looked up."""

    def find(self, gate: Gate, pod: Pod, reference: str) -> ImageRecord | UnknownImage:
        """Return what the gate's status says of an image."""
        del pod
        return gate.images.get(image_key(reference)) or UnknownImage(reference)


STATUS_IMAGES = StatusImages()


def read_expectation(pod: Pod, gate: Gate, images: ImageView = STATUS_IMAGES) -> Requirement:
    """Read what a pod requires of a gate's ledger.

    Args:
        images: what is known of the pod's images; asked only where the gate asks them.
    """
    own = read_requirement(pod, gate.name, gate.expect_env)
    if gate.expect_image is None:
        return own
    found = [(names[-1], _find(gate, pod, names, images)) for names in pod_images(pod, gate.expect_image)]
    records = [(reference, each) for reference, each in found if isinstance(each, ImageRecord)]
    labelled = [(reference, each) for reference, each in records if each.revision is not None]
    unknown = [each for _, each in found if isinstance(each, UnknownImage)]
    own = replace(own, images=tuple((reference, each.image) for reference, each in records))
    if len({each.revision for _, each in labelled}) > 1:
        return replace(own, problem=_disagreement(labelled), unknown=None)
    if unknown:
        # A contradictory image is reported first, then one that cannot be read, then one that is still being read.
        return replace(own, unknown=max(unknown, key=lambda each: (each.contradictory, bool(each.message))))
    if labelled:
        return _by_label(own, labelled[0][1])
    return own if own.expected or own.invalid else replace(own, hint=_unlabelled(pod, gate.expect_image))


def _find(gate: Gate, pod: Pod, names: tuple[str, ...], images: ImageView) -> ImageRecord | UnknownImage:
    """Return what is known under the first of an image's names that is known."""
    found = [images.find(gate, pod, name) for name in names]
    return next((each for each in found if isinstance(each, ImageRecord)), found[-1])


def _by_label(own: Requirement, record: ImageRecord) -> Requirement:
    expected = parse_declared(record.revision or "")
    source = Source(SourceKind.IMAGE, record.image)
    if expected is None:
        text = f"label dev.ledgergate.revision of image {_cut(record.image)} is not a revision; build the image anew"
        return replace(own, problem=text, source=source)
    return replace(
        own,
        expected=expected,
        invalid=None,
        ancestors=parse_ancestors(record.ancestors),
        source=source,
        contract=record.contract,
        conflict=_conflict(own, expected),
    )


def _conflict(own: Requirement, expected: Revision) -> str:
    """Return how a pod's own words differ from its image's label; empty where they agree or are missing."""
    if own.invalid is not None:
        said = repr(own.invalid[:_SHOWN])
    elif own.expected is None or _same(own.expected, expected):
        return ""
    else:
        said = _cut(str(own.expected))
    return f"{own.source} says {said}, the image's label says {_cut(str(expected))}: the label counts"


def _same(one: Revision, other: Revision) -> bool:
    """Return whether two revisions agree; COUNT.DIGEST is compared only where both have it."""
    return one.name == other.name and (one.count is None or other.count is None or one == other)


def _disagreement(labelled: list[tuple[str, ImageRecord]]) -> str:
    (first, one), *others = labelled
    second, other = next(each for each in others if each[1].revision != one.revision)
    return (
        f"images of one pod need different revisions: {_cut(first)} needs {_cut(one.revision or '')}, {_cut(second)} "
        f"needs {_cut(other.revision or '')}; name the container in spec.expect.image.container of the LedgerGate"
    )


def _unlabelled(pod: Pod, expected: ExpectedImage) -> str:
    if expected.container is not None and not any(pod_images(pod, expected)):
        return f"it has no container {expected.container}, which spec.expect.image names"
    return "its image has no label dev.ledgergate.revision"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}…{text[1 - _SHOWN // 2 :]}"
