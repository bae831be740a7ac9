"""The condition of a pod's readiness gate: what it should say, and what it must never say."""

from datetime import UTC, datetime

import pytest

from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.api.objects import Condition, Metadata, Pod, PodSpec, PodStatus, ReadinessGate, SchedulingGate
from webhook.core.gate import Action, Gate, Mode, Policy, Readiness
from webhook.core.readiness import ReadinessVerdict, assess, requested_gates
from webhook.core.selector import Selector
from webhook.core.verdict import Reason

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
A, B, C = "20260101000000_a", "20260102000000_b", "20260103000000_c"
APPLIED, FAILED = State.APPLIED, State.FAILED
POD = Pod(metadata=Metadata(annotations={"ledgergate.dev/revision": B}))
READY = Condition(type="ledgergate.dev/app", status="True", reason="Matches")
LATCH, LIVE = Readiness.LATCH, Readiness.LIVE


def snapshot(
    *names: str, fault: Fault | None = None, dirty: str | None = None, contract: str | None = None
) -> LedgerSnapshot:
    records = [Record(name, APPLIED, compatible_from=contract if name == C else None) for name in names]
    records += [Record(dirty, FAILED)] if dirty else []
    return LedgerSnapshot(Ledger.of(sorted(records, key=lambda record: record.revision)), NOW, fault)


def judged(
    found: LedgerSnapshot, before: Condition | None, readiness: Readiness, **policy: object
) -> ReadinessVerdict | None:
    gate = Gate("ns", "app", Selector(), "pg", "ledgergate", policy=Policy(readiness=readiness, **policy))  # type: ignore[arg-type]
    return assess(before, POD, gate, found, NOW)


GOOD = [snapshot(A, B), snapshot(A, B, C), snapshot(A, B, dirty=C)]
LOST = [snapshot(A), snapshot(), snapshot(A, dirty=B), snapshot(A, B, C, contract=C)]
UNTOLD = [
    snapshot(A, fault=Fault.UNREACHABLE),
    snapshot(A, B, C, contract=C, fault=Fault.UNREACHABLE),
    snapshot(A, B, dirty=A),
    LedgerSnapshot(fault=Fault.AUTHENTICATION),
    LedgerSnapshot(fault=Fault.UNREAD),
]


@pytest.mark.parametrize("readiness", [LATCH, LIVE])
@pytest.mark.parametrize("found", GOOD)
def test_a_pod_is_ready_when_its_revision_is_there(found: LedgerSnapshot, readiness: Readiness) -> None:
    """Matches, ahead, or dirty above the revision: the pod is ready, and its condition is written once."""
    ready = judged(found, None, readiness)
    assert ready is not None
    assert ready.status
    assert judged(found, READY, readiness) is None


@pytest.mark.parametrize("readiness", [LATCH, LIVE])
@pytest.mark.parametrize("found", [*LOST, *UNTOLD[:-1]])
def test_a_pod_is_not_ready_before_its_revision_was_seen(found: LedgerSnapshot, readiness: Readiness) -> None:
    """The condition has a reason and a message, for `kubectl describe pod`."""
    ready = judged(found, None, readiness)
    assert ready is not None
    assert not ready.status
    assert ready.reason in set(Reason)
    assert ready.message


@pytest.mark.parametrize("found", [*LOST, *UNTOLD])
def test_latch_never_goes_back(found: LedgerSnapshot) -> None:
    """Once ready the pod stays ready, whatever happens to the ledger."""
    assert judged(found, READY, LATCH) is None


@pytest.mark.parametrize("found", LOST)
def test_live_goes_back_where_the_revision_is_lost(found: LedgerSnapshot) -> None:
    """The revision was undone, or a contract migration excludes it: the pod must get no traffic."""
    ready = judged(found, READY, LIVE)
    assert ready is not None
    assert not ready.status


@pytest.mark.parametrize("found", UNTOLD)
def test_live_never_goes_back_for_what_is_not_known(found: LedgerSnapshot) -> None:
    """Neither an outage of the database nor another migration's failure may take every pod out of its Service."""
    assert judged(found, READY, LIVE) is None


@pytest.mark.parametrize("readiness", [LATCH, LIVE])
def test_a_gate_that_only_warns_makes_pods_ready(readiness: Readiness) -> None:
    """A pod that may run may be ready: under Audit and Warn it stays ready."""
    for policy in ({"mode": Mode.AUDIT}, {"on_behind": Action.WARN}):
        ready = judged(snapshot(A), None, readiness, **policy)
        assert ready is not None
        assert ready.status
        assert judged(snapshot(A), READY, readiness, **policy) is None


def test_a_long_run_does_not_write_at_each_migration() -> None:
    """A waiting pod's condition is written when the reason changes, not whenever the head does."""
    before = judged(snapshot(), None, LIVE)
    assert before is not None
    waiting = Condition(type=READY.type, status="False", reason=before.reason, message=before.message)
    assert judged(snapshot(A), waiting, LIVE) is None
    changed = judged(snapshot(A, dirty=B), waiting, LIVE)
    assert changed is not None
    assert changed.reason == "Dirty"


def test_only_pods_whose_readiness_matters_request_gates() -> None:
    """Not one that is held, is being deleted or has finished; other tools' readiness gates are ignored."""
    gates = [ReadinessGate(condition_type=name) for name in ("ledgergate.dev/app", "example.com/lb")]
    pod = Pod(spec=PodSpec(readiness_gates=gates))
    assert requested_gates(pod) == ("app",)
    held = Pod(spec=PodSpec(readiness_gates=gates, scheduling_gates=[SchedulingGate(name="ledgergate.dev/ledger")]))
    leaving = Pod(spec=pod.spec, metadata=Metadata(deletion_timestamp="2026-01-01T00:00:00Z"))
    done = Pod(spec=pod.spec, status=PodStatus(phase="Succeeded"))
    assert [requested_gates(found) for found in (held, leaving, done, Pod())] == [(), (), (), ()]
