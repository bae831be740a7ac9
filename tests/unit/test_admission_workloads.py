"""The preview of a workload whose pods do not exist yet."""

from typing import Any

import msgspec
import pytest

from migrations.core.snapshot import Fault, LedgerSnapshot
from tests.admission_chain import Ledgers
from tests.admission_subjects import BEHIND, THERE, B, admission, gate
from webhook.admission.handlers import Result
from webhook.admission.review import Request
from webhook.api.workload import Workload
from webhook.core.gate import Action, Gate, Mode
from webhook.core.verdict import Reason


def deployment(revision: str | None = B, *, guarded: bool = True, operation: str = "CREATE", **metadata: Any) -> Any:
    labels = {"guarded": ""} if guarded else {}
    annotations = {} if revision is None else {"ledgergate.dev/revision": revision}
    template = {"metadata": {"labels": labels, "annotations": annotations}}
    whole: Any = {"kind": "Deployment", "metadata": {"name": "web", **metadata}, "spec": {"template": template}}
    whole["spec"]["strategy"] = {"type": "Recreate"}
    subject = msgspec.convert(whole, Workload)
    return Request(uid="u", operation=operation, namespace="ns", object=subject)


def test_a_workload_is_previewed() -> None:
    """It is warned of what its pods wait for, and refused where a gate says so; not where its pods may run."""
    refusing = gate(on_behind_workload=Action.DENY)
    assert admission(Ledgers([refusing], THERE)).preview(deployment()).result is Result.ADMITTED
    unread = admission(Ledgers([refusing], LedgerSnapshot(fault=Fault.PENDING))).preview(deployment())
    assert (unread.result, unread.verdict.reason) == (Result.WARNED, Reason.UNDECIDED)
    behind = admission(Ledgers([gate()], BEHIND)).preview(deployment())
    assert (behind.result, behind.verdict.reason) == (Result.WARNED, Reason.BEHIND)
    assert behind.warnings[0].startswith("pods of deployment/web will be held: ledger app is at")
    refused = admission(Ledgers([gate("other"), refusing], BEHIND)).preview(deployment())
    assert refused.result is Result.DENIED
    assert len(refused.warnings) == 2
    assert len(behind.warnings) == 1, "at a creation nothing runs yet"
    recreated = admission(Ledgers([gate()], BEHIND)).preview(deployment(operation="UPDATE"))
    assert "takes running pods of deployment/web away" in recreated.warnings[1]
    audited = admission(Ledgers([refusing], BEHIND)).preview(deployment(), audit=True)
    assert (audited.result, audited.verdict.reason) == (Result.WARNED, Reason.BEHIND)
    assert audited.warnings[0].startswith("audit: pods of deployment/web would be held")


class CountedLedgers(Ledgers):
    """Counts how often a gate is decided about."""

    decided = 0

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Count, and return what is known."""
        self.decided += 1
        return super().snapshot(gate)


@pytest.mark.parametrize("mode", Mode)
def test_a_workload_is_judged_once(mode: Mode) -> None:
    """The verdict and the warnings follow from the same decision about the same snapshot."""
    view = CountedLedgers([gate("app", mode=mode), gate("other", mode=mode)], THERE)
    assert admission(view).preview(deployment()).result is Result.ADMITTED
    assert view.decided == 2


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(deployment(guarded=False), id="no gate selects its pods, though they declare a revision"),
        pytest.param(deployment(deletionTimestamp="t"), id="it is going away"),
        pytest.param(
            Request(uid="u", operation="CREATE", namespace="ns", object=Workload(kind="ReplicaSet")), id="no template"
        ),
    ],
)
def test_some_workloads_get_no_forecast(request_: Request[Workload]) -> None:
    """Such a workload gets neither a warning nor a refusal."""
    view = Ledgers([gate(on_behind_workload=Action.DENY)], BEHIND)
    answer = admission(view).preview(request_)
    assert (answer.result, answer.warnings) == (Result.PASSED, ())
