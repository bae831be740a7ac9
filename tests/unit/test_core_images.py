"""What is known of images: which names lead to them, which of a pod's images are asked, and how much is kept."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from webhook.api.objects import ImageEntry, Pod
from webhook.cache.recorded_images import RecordedImages
from webhook.core.expectation import read_expectation
from webhook.core.gate import Gate
from webhook.core.images import (
    IMAGES,
    MAX_IMAGES_TEXT,
    ExpectedImage,
    ImageRecord,
    UnknownImage,
    format_images,
    has_tag,
    image_key,
    index_images,
    pod_images,
)
from webhook.core.patches import pin_patch
from webhook.core.requirement import SourceKind
from webhook.core.selector import Selector

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
ONE, TWO = (f"registry:5000/shop@sha256:{digit * 64}" for digit in "12")
STAMP = "2026-01-26T11:59:30Z"


def pod(*containers: dict[str, Any], statuses: list[dict[str, Any]] | None = None, **metadata: Any) -> Pod:
    document = {
        "metadata": metadata,
        "spec": {"containers": list(containers)},
        "status": {"containerStatuses": statuses},
    }
    return msgspec.convert(document, Pod)


def gate(*records: ImageRecord, expected: ExpectedImage | None = None) -> Gate:
    images = {name: each for each in records for name in (each.digest, *each.references)}
    return Gate("ns", "app", Selector(), "pg", "ledgergate", expect_image=expected or ExpectedImage(), images=images)


MAIN = {"name": "main", "image": "shop:1"}
KNOWN = ImageRecord(ONE, "a", references=("shop:1",), resolved_at=STAMP, checked_at=STAMP)


def test_a_digest_names_an_image_whatever_stands_before_it() -> None:
    """The tag beside a digest does not count; without a digest the whole text does."""
    assert image_key(ONE) == image_key(f"other:tag@sha256:{'1' * 64}") == f"sha256:{'1' * 64}"
    assert (image_key("shop:1"), has_tag("shop:1"), has_tag(ONE)) == ("shop:1", True, False)


def test_a_status_is_read_back_as_it_was_written() -> None:
    """Another process finds the images that a controller has written by digest and by each name."""
    records = [KNOWN, ImageRecord(TWO, None, "c:b", "", (), STAMP, STAMP)]
    found = index_images(msgspec.convert(format_images(records), list[ImageEntry]))
    assert [found[KNOWN.digest], found["shop:1"]] == [KNOWN, KNOWN]
    assert found[records[1].digest] == records[1]
    assert len(found) == 3


def test_a_status_keeps_the_newest_and_no_more_than_fits() -> None:
    """At most 50 images, and no more text than an object in etcd has room for; the last ones are kept."""
    many = [ImageRecord(f"r@sha256:{number:064x}", "a") for number in range(IMAGES + 5)]
    kept = format_images(many)
    assert [each["image"] for each in kept] == [each.image for each in many[5:]]
    long = [ImageRecord(f"r@sha256:{number:064x}", "a", ancestors="x" * (MAX_IMAGES_TEXT // 4)) for number in range(6)]
    assert [each["image"] for each in format_images(long)] == [each.image for each in long[-3:]]


@pytest.mark.parametrize(
    ("container", "asked"), [(None, [("shop:1",), ("side:1",), ("init:1",)]), ("side", [("side:1",)]), ("none", [])]
)
def test_the_images_of_all_containers_are_asked_or_of_one(container: str | None, asked: list[tuple[str]]) -> None:
    """Init containers too: they run against the same database."""
    whole = {
        "spec": {
            "containers": [MAIN, {"name": "side", "image": "side:1"}, {"name": "bare"}],
            "initContainers": [{"name": "init", "image": "init:1"}],
        }
    }
    assert list(pod_images(msgspec.convert(whole, Pod), ExpectedImage(container))) == asked


def test_what_the_kubelet_pulled_counts_more_than_the_tag() -> None:
    """A pod that runs is judged by the image that it runs, although its tag has moved since."""
    moved = ImageRecord(TWO, "b", references=("shop:1",))
    known = gate(ImageRecord(ONE, "a"), moved)
    running = pod(MAIN, statuses=[{"name": "main", "imageID": f"docker-pullable://{ONE}"}])
    required = read_expectation(running, known)
    assert str(required.expected) == "a"
    assert (required.source.kind, required.source.name) == (SourceKind.IMAGE, ONE)
    assert str(read_expectation(pod(MAIN), known).expected) == "b"
    unknown = pod(MAIN, statuses=[{"name": "main", "imageID": f"shop@sha256:{'3' * 64}"}])
    assert str(read_expectation(unknown, known).expected) == "b", "one that was not read leaves it to the tag"


@pytest.mark.parametrize(
    ("declared", "conflict"),
    [({}, False), ({"ledgergate.dev/revision": "a"}, False), ({"ledgergate.dev/revision": "b"}, True)],
)
def test_own_words_that_say_otherwise_are_named(declared: dict[str, str], conflict: bool) -> None:
    """The message names the annotation, what it says, and what the image says; the short form contradicts no long."""
    required = read_expectation(pod(MAIN, annotations=declared), gate(KNOWN))
    assert str(required.expected) == "a"
    assert bool(required.conflict) is conflict
    if conflict:
        assert required.conflict == (
            "annotation ledgergate.dev/revision says b, the image's label says a: the label counts"
        )


def test_the_short_form_does_not_contradict_the_long_one() -> None:
    """An annotation with the name alone agrees with a label in the long form."""
    long = ImageRecord(ONE, "a+1.0123456789ab", references=("shop:1",))
    assert read_expectation(pod(MAIN, annotations={"ledgergate.dev/revision": "a"}), gate(long)).conflict == ""


class Leader:
    """Whether a controller leads."""

    def __init__(self, *, leads: bool) -> None:
        self.leads = leads


@pytest.mark.parametrize(
    ("age", "leads", "pin", "known"),
    [
        (30, True, False, True),
        (90, True, False, False),
        (90, False, False, True),
        (30, True, True, False),
    ],
)
def test_a_tag_that_was_not_looked_up_lately_is_left_to_the_controller(
    age: int, leads: bool, pin: bool, known: bool
) -> None:
    """An old look-up of a tag does not decide while a controller leads; the image of a digest never changes."""
    record = ImageRecord(ONE, "a", references=("shop:1",), checked_at=(NOW - timedelta(seconds=age)).isoformat())
    subject = gate(record, expected=ExpectedImage(pin=pin))
    view = RecordedImages(Leader(leads=leads), lambda: NOW)
    found = view.find(subject, Pod(), "shop:1")
    assert found == (record if known else UnknownImage("shop:1"))
    assert view.find(subject, Pod(), ONE) == record


def test_a_pin_puts_the_digest_in_the_place_of_the_tag() -> None:
    """The patch tests that the reference is unchanged, and only references that were judged are replaced."""
    subject = pod(MAIN, {"name": "side", "image": "side:1"})
    assert pin_patch(subject, {"shop:1": ONE}) == [
        {"op": "test", "path": "/spec/containers/0/image", "value": "shop:1"},
        {"op": "replace", "path": "/spec/containers/0/image", "value": ONE},
    ]
