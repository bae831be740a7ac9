"""What `kubectl apply` says of a workload whose gate asks its image."""

from typing import Any

import msgspec
import pytest

from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import LedgerSnapshot
from tests.admission_chain import NOW
from webhook.admission.forecast import preview
from webhook.api.objects import Pod
from webhook.api.workload import Workload
from webhook.core.gate import Action, Gate, Policy
from webhook.core.images import ExpectedImage, ImageRecord
from webhook.core.pod_verdict import decide_pod
from webhook.core.selector import Selector

IMAGE = f"registry/shop@sha256:{'1' * 64}"


def warnings(label: str | None, annotation: str | None, *, known: bool = True) -> tuple[str, ...]:
    """Return the warnings of a Deployment of shop:1 where the ledger is at `1_a`."""
    images = {"shop:1": ImageRecord(IMAGE, label, references=("shop:1",))} if known else {}
    policy = Policy(on_behind_workload=Action.DENY)
    gate = Gate("ns", "app", Selector(), "pg", "ledgergate", policy=policy, expect_image=ExpectedImage(), images=images)
    pod: dict[str, Any] = {
        "metadata": {"annotations": {"ledgergate.dev/revision": annotation} if annotation else {}},
        "spec": {"containers": [{"name": "main", "image": "shop:1"}]},
    }
    whole = {"kind": "Deployment", "metadata": {"name": "gateway"}, "spec": {"template": pod}}
    ledger = LedgerSnapshot(Ledger.of([Record("1_a", State.APPLIED)]), NOW)
    decided = decide_pod(msgspec.convert(pod, Pod), [(gate, ledger)], NOW)
    (found,) = preview(msgspec.convert(whole, Workload), decided.by_gate, updated=True)
    assert bool(found.refusal) is (known and label == "2_b")
    return found.warnings


@pytest.mark.parametrize(
    ("label", "annotation", "said"),
    [
        ("1_a", None, []),
        ("1_a", "1_a", []),
        ("2_b", None, ["will be held"]),
        ("2_b", "1_a", ["will be held", "annotation ledgergate.dev/revision says 1_a, the image's label says 2_b"]),
        ("1_a", "2_b", ["annotation ledgergate.dev/revision says 2_b, the image's label says 1_a"]),
        (None, "1_a", []),
    ],
)
def test_the_image_is_what_the_warning_is_about(label: str | None, annotation: str | None, said: list[str]) -> None:
    """The label decides about the pods; a warning names an annotation that differs, with both revisions."""
    found = warnings(label, annotation)
    assert len(found) == len(said)
    assert all(text in warning for text, warning in zip(said, found, strict=True))


def test_an_image_that_is_being_read_causes_no_warning() -> None:
    """An image that the controller has not read yet, as in every rollout, causes neither a warning nor a refusal."""
    assert warnings(None, "2_b", known=False) == ()
