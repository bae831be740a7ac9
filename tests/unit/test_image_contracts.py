"""What a migrator brings, and what living pods need, by the labels of their images."""

from typing import Any

import msgspec
import pytest

from migrations.core.contract import Contract
from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import LedgerSnapshot
from tests.admission_chain import NOW, Ledgers
from webhook.api.objects import Pod
from webhook.core.gate import Action, Gate, Policy
from webhook.core.images import ExpectedImage, ImageRecord, UnknownImage
from webhook.core.living import count_living
from webhook.core.pod_verdict import decide_pod, read_required
from webhook.core.selector import Selector
from webhook.core.verdict import Outcome, Reason

A, B, C = "20260101000000_a", "20260102000000_b", "20260103000000_c"
IMAGE = f"registry/app@sha256:{'1' * 64}"
LEDGER = LedgerSnapshot(Ledger.of([Record(A, State.APPLIED), Record(B, State.APPLIED)]), NOW)


def gate(contract: str = f"{C}:{B}", on_contract: Action = Action.HOLD) -> Gate:
    """Return a gate that knows the image app:2, which needs B."""
    record = ImageRecord(IMAGE, B, contract, references=("app:2",))
    return Gate(
        "ns",
        "app",
        Selector(),
        "pg",
        "ledgergate",
        policy=Policy(on_contract=on_contract),
        expect_image=ExpectedImage(),
        images={"app:2": record, record.digest: record},
    )


def pod(image: str = "app:2", annotations: dict[str, str] | None = None, *, migrates: bool = True) -> Pod:
    named = {f"ledgergate.dev/{name}": value for name, value in (annotations or {}).items()}
    document: dict[str, Any] = {
        "metadata": {"uid": "u", "annotations": named | ({"ledgergate.dev/migrates": "app"} if migrates else {})},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }
    return msgspec.convert(document, Pod)


@pytest.mark.parametrize("annotation", [{}, {"contract": f"{B}:{A}"}, {"contract": ""}])
def test_the_label_says_what_a_migrator_brings(annotation: dict[str, str]) -> None:
    """The image's label decides, not the pod's annotation, since the image contains the migrations."""
    assert read_required(pod(annotations=annotation), gate()).brings.contracts == (Contract(C, B),)


def test_without_a_label_the_annotation_does() -> None:
    """An image that says nothing of itself leaves it to the pod."""
    bare = Gate("ns", "app", Selector(), "pg", "ledgergate", expect_image=ExpectedImage())
    assert read_required(pod("other:1", {"contract": f"{C}:{B}"}), bare).brings.contracts == (Contract(C, B),)


def test_a_migrator_that_brings_a_contract_by_its_label_is_held() -> None:
    """`StillNeeded`, as by an annotation."""
    decided = decide_pod(pod(), [(gate(), LEDGER)], NOW).final
    assert (decided.reason, decided.outcome) == (Reason.STILL_NEEDED, Outcome.HOLD)


@pytest.mark.parametrize(
    ("unread", "on_contract", "reason", "outcome"),
    [
        (UnknownImage("app:3"), Action.HOLD, Reason.RESOLVING, Outcome.HOLD),
        (UnknownImage("app:3"), Action.ALLOW, Reason.SELF_MIGRATING, Outcome.ADMIT),
        (UnknownImage("app:3", "the registry is down"), Action.HOLD, Reason.SELF_MIGRATING, Outcome.ADMIT),
    ],
)
def test_a_migrator_whose_image_is_not_known(
    unread: UnknownImage, on_contract: Action, reason: Reason, outcome: Outcome
) -> None:
    """It waits until its image is read, since that may bring a contract; an unreadable image does not block it."""
    subject = gate(on_contract=on_contract)
    view = Ledgers([subject], LEDGER, unread=unread)
    decided = decide_pod(pod("app:3"), [(subject, LEDGER)], NOW, view).final
    assert (decided.reason, decided.outcome) == (reason, outcome)


def test_a_living_pod_whose_image_is_not_known_is_waited_for() -> None:
    """A pod whose image was not read yet may need the old schema, whatever its annotation says."""
    subject, contracts = gate(), [Contract(C, B)]
    pods = [pod(migrates=False), pod("app:3", {"revision": B}, migrates=False)]
    living = count_living(
        subject,
        pods,
        contracts,
        LEDGER.ledger,
        migrator="m",
        read=lambda each: read_required(each, subject),
        released=lambda _: False,
    )
    assert living.needed == 1


def test_an_old_annotation_refuses_no_pod_whose_image_is_being_read() -> None:
    """By its old annotation the pod would be denied; it is held until the image is read, which may let it run."""
    records = [Record(A, State.APPLIED), Record(B, State.APPLIED), Record(C, State.APPLIED, compatible_from=B)]
    ledger = LedgerSnapshot(Ledger.of(records), NOW)
    view = Ledgers([gate()], ledger, unread=UnknownImage("app:3"))
    decided = decide_pod(pod("app:3", {"revision": A}, migrates=False), [(gate(), ledger)], NOW, view).final
    assert (decided.reason, decided.outcome) == (Reason.RESOLVING, Outcome.HOLD)
