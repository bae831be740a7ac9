"""What `ledgergate status` shows of gates and held pods, from objects of the API server."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from webhook.api.namespace import Namespace
from webhook.api.objects import Pod
from webhook.core.overview import ListedObjects, PodEvent, PodRow, ShownGate, build_overview, format_age, parse_time

NOW = datetime(2026, 1, 26, 12, 0, 0, tzinfo=UTC)
FIRST, SECOND, THIRD = "20260101000000_users", "20260102000000_orders", "20260103000000_index"
DIGEST = f"sha256:{'1' * 64}"
LIVE = {"state": "Live", "head": FIRST, "applied": 1, "heldPods": 1, "history": [{"revision": FIRST}]}


def gate(name: str = "app", status: dict[str, Any] | None = None, **spec: Any) -> ShownGate:
    whole = {
        "selector": {},
        "database": {"secretRef": {"name": "pg"}},
        "ledger": {"dialect": "ledgergate"},
        **spec,
    }
    created = {"name": name, "namespace": "shop", "creationTimestamp": "2026-01-26T11:00:00Z"}
    body = {"metadata": created, "spec": whole, "status": LIVE if status is None else status}
    return msgspec.convert(body, ShownGate)


def pod(name: str = "gateway", expects: str | None = THIRD, *, held: bool = True) -> Pod:
    metadata = {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": "2026-01-26T11:55:00Z"}
    annotations = {} if expects is None else {"ledgergate.dev/revision": expects}
    gates = [{"name": "ledgergate.dev/ledger"}] if held else []
    return msgspec.convert(
        {
            "metadata": {**metadata, "annotations": annotations},
            "spec": {"schedulingGates": gates, "containers": [{"name": "m", "image": "app"}]},
        },
        Pod,
    )


def event(message: str, at: str = "2026-01-26T11:56:00.000000Z", uid: str = "gateway") -> PodEvent:
    return msgspec.convert({"involvedObject": {"uid": uid}, "message": message, "eventTime": at}, PodEvent)


def namespace(**labels: str) -> Namespace:
    return msgspec.convert({"metadata": {"name": "shop", "labels": labels}}, Namespace)


def the_pod(*gates: ShownGate, events: tuple[PodEvent, ...] = (), expects: str | None = THIRD) -> PodRow:
    (line,) = build_overview(ListedObjects(gates, [pod(expects=expects)], events), NOW).held
    return line


def remarks(found: ShownGate, *namespaces: Namespace) -> tuple[str, ...]:
    (line,) = build_overview(ListedObjects([found], [], (), namespaces), NOW).gates
    return line.remarks


def test_a_gate_is_shown_as_in_its_status() -> None:
    """One row for each gate, sorted; a gate that works has no remark."""
    found = build_overview(ListedObjects([gate("b"), gate("a")], []), NOW)
    assert [line.name for line in found.gates] == ["a", "b"]
    line = found.gates[0]
    assert (line.head, line.applied, line.state, line.held, line.remarks) == (FIRST, 1, "Live", 1, ())
    assert line.created_at == NOW - timedelta(hours=1)


def test_only_held_pods_are_shown() -> None:
    """A pod without the scheduling gate is left out."""
    found = build_overview(ListedObjects([gate()], [pod("b"), pod("a"), pod("free", held=False)]), NOW)
    assert [line.name for line in found.held] == ["a", "b"]


def test_a_pod_without_an_event_is_judged_by_the_status() -> None:
    """The reason follows from what the gate's status records of its ledger."""
    line = the_pod(gate())
    assert (line.gates, line.reason) == (("app",), "Behind")
    assert f"ledger app is at {FIRST}, the pod expects {THIRD}" in line.message


def test_a_pod_shows_where_its_revision_was_found() -> None:
    """The annotation, or the image with its digest; while an image is read, the controller's Event says more."""
    assert the_pod(gate()).source == "annotation ledgergate.dev/revision"
    asking = gate(expect={"image": {}}, status={**LIVE, "images": [{"image": f"app@{DIGEST}", "references": ["app"]}]})
    assert the_pod(asking, expects=None).source == ""
    known = {"image": f"app@{DIGEST}", "references": ["app"], "revision": THIRD}
    line = the_pod(gate(expect={"image": {}}, status={**LIVE, "images": [known]}))
    assert (line.reason, line.source) == ("Behind", f"image app@{DIGEST}")
    line = the_pod(gate(expect={"image": {}}), events=(event("the registry does not answer"),))
    assert line.message == "the registry does not answer"


def test_the_status_takes_precedence_over_an_older_event() -> None:
    """An Event is written once for each reason; the ledger may have changed since."""
    line = the_pod(gate(), events=(event("ledger app is at its beginning"),))
    assert f"ledger app is at {FIRST}" in line.message


@pytest.mark.parametrize(
    "status",
    [
        {**LIVE, "state": "Dirty"},
        {**LIVE, "applied": 200, "history": [{"revision": "20260104000000_later"}]},
        {**LIVE, "history": [{"revision": FIRST}, {"revision": SECOND}, {"revision": THIRD}], "applied": 3},
    ],
    ids=["an older version wrote no failed migration", "the history is not whole", "nothing there explains it"],
)
def test_the_event_takes_precedence_where_the_status_knows_less(status: dict[str, Any]) -> None:
    """The newest Event about this pod is shown."""
    events = (
        event("second", "2026-01-26T11:57:00.000000Z"),
        event("first"),
        event("another pod", "2026-01-26T11:59:00.000000Z", uid="other"),
    )
    assert the_pod(gate(status=status), events=events).message == "second"


def test_a_pod_shows_each_gate_that_holds_it() -> None:
    """Of the gates that select it, those are named whose ledger does not satisfy the pod."""
    arrived = {**LIVE, "history": [{"revision": each} for each in (FIRST, SECOND, THIRD)], "applied": 3, "head": THIRD}
    assert the_pod(gate("late"), gate("there", arrived)).gates == ("late",)
    assert the_pod(gate("late"), gate("later")).gates == ("late", "later")


def test_a_held_pod_with_a_good_verdict_needs_a_controller() -> None:
    """A pod that may start and is still held shows that no controller releases it."""
    assert "a running controller releases it" in the_pod(gate(), expects=FIRST).message


def test_a_pod_that_no_gate_selects() -> None:
    """A pod that declares a revision, although no LedgerGate selects it, shows that as its reason."""
    line = the_pod()
    assert (line.gates, line.reason) == ((), "Unselected")
    assert "no LedgerGate selects it" in line.message


def test_a_pod_that_waits_for_its_gate() -> None:
    """It declares nothing, and the label of its namespace is the reason."""
    labelled = namespace(**{"ledgergate.dev/admission": "enabled", "ledgergate.dev/undeclared": "wait"})
    (line,) = build_overview(ListedObjects((), [pod(expects=None)], (), [labelled]), NOW).held
    assert (line.gates, line.reason) == ((), "Unselected")
    assert "ledgergate.dev/undeclared=wait" in line.message


def test_a_label_that_is_misspelt_is_a_remark() -> None:
    """Every gate of the namespace shows it."""
    labelled = namespace(**{"ledgergate.dev/admission": "enabled", "ledgergate.dev/undeclared": "waits"})
    (remark,) = remarks(gate(), labelled)
    assert (
        remark == "namespace label ledgergate.dev/undeclared=waits is not known and has no effect: did you mean wait?"
    )


def test_a_ledger_that_cannot_be_read_is_the_reason() -> None:
    """The last known revisions do not satisfy this pod, so it waits for the database."""
    line = the_pod(gate(status={**LIVE, "state": "Unreachable"}))
    assert line.reason == "Unreachable"


def test_a_tool_that_records_its_head_alone() -> None:
    """The last revision of the history is the head; those before it count as applied."""
    heads = {**LIVE, "head": "b2", "history": [{"revision": "c3"}, {"revision": "b2"}], "applied": 2}
    alembic = gate(status=heads, ledger={"dialect": "alembic"})
    assert "ledger app is at b2" in the_pod(alembic, expects="d4").message
    assert "a running controller releases it" in the_pod(alembic, expects="c3").message


def test_a_gate_without_a_status_asks_for_the_controller() -> None:
    """No status at all: the controller does not run, or may not write."""
    (remark,) = remarks(gate(status={}))
    assert "ledgergate controller" in remark


def test_a_gate_that_does_not_work_says_why() -> None:
    """Its own condition's message, which has the remedy."""
    conditions = [{"type": "Ready", "status": "False", "message": "Secret pg does not exist; create it"}]
    assert remarks(gate(status={**LIVE, "state": "Misconfigured", "conditions": conditions})) == (
        "Secret pg does not exist; create it",
    )


def test_a_running_migration_is_shown() -> None:
    """The remark says which migration runs, who runs it, and for how long."""
    running = {"revision": SECOND, "holder": "migrate-x7k2", "since": "2026-01-26T11:58:00Z"}
    assert remarks(gate(status={**LIVE, "migration": running})) == (f"{SECOND} is running, by migrate-x7k2, for 2m",)


def test_a_contract_migration_shows_the_pods_by_revision() -> None:
    """While it waits, the remark counts pods by owner and revision; while it runs, it says which pods are refused."""
    step = {"revision": THIRD, "compatibleFrom": SECOND, "pod": "migrate-x", "uid": "m"}
    groups = [
        {"owner": "deployment/gateway", "expected": FIRST, "count": 3, "needed": True},
        {"owner": "deployment/gateway", "expected": SECOND, "count": 1},
    ]
    (waits,) = remarks(gate(status={**LIVE, "contractWaiting": {**step, "pods": groups}}))
    assert waits.startswith(
        f"contract migration {THIRD} (pod migrate-x) needs images from {SECOND} on and waits for 3 "
    )
    assert f"3 of deployment/gateway expect {FIRST}; 1 of deployment/gateway expect {SECOND}" in waits
    (runs,) = remarks(gate(status={**LIVE, "contracting": step}))
    assert runs.startswith(f"contract migration {THIRD} is released in pod migrate-x")
    assert runs.endswith(f"pods that expect less than {SECOND} are refused")


def test_a_bypass_is_shown_while_it_is_in_force() -> None:
    """The remark says until when, by whom and why; an ended bypass has none; one that ends too late has no effect."""
    (remark,) = remarks(gate(bypass={"until": "2026-01-26T12:30:00Z", "reason": "incident 7"}))
    assert "until 2026-01-26 12:30:00 UTC" in remark
    assert "incident 7" in remark
    assert remarks(gate(bypass={"until": "2026-01-26T11:30:00Z", "reason": "incident 7"})) == ()
    (named,) = remarks(gate(bypass={"until": "2026-01-26T12:30:00Z", "reason": "incident 7", "by": "alice"}))
    assert "UTC by alice: every pod starts" in named
    (late,) = remarks(gate(bypass={"until": "2026-01-27T13:30:00Z", "reason": "incident 7"}))
    assert "does not count: spec.bypass.until may be 24 hours ahead at most" in late


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({}, "kubectl label namespace shop ledgergate.dev/admission=enabled"),
        ({"ledgergate.dev/admission": "audit"}, "verdicts are only reported"),
        ({"ledgergate.dev/admission": "yes"}, "kubectl label namespace shop"),
    ],
)
def test_a_gate_in_a_namespace_that_has_not_opted_in_says_how(labels: dict[str, str], says: str) -> None:
    """The most common reason why a gate holds nothing; a value that is not known is named, too."""
    remark, *more = remarks(gate(), namespace(**labels))
    assert len(more) == ("yes" in labels.values())
    assert says in remark
    assert remarks(gate(), namespace(**{"ledgergate.dev/admission": "enabled"})) == ()


def test_audit_is_shown() -> None:
    """A gate that only reports verdicts holds nothing, and a remark says so."""
    (remark,) = remarks(gate(mode="Audit"))
    assert "every pod starts" in remark


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (86400 * 3, "3d")]
)
def test_ages_are_written_as_kubectl_does(seconds: int, text: str) -> None:
    """The largest unit of which there are at least two."""
    assert format_age(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize("text", [None, "", "yesterday", "2026-13-01T00:00:00Z"])
def test_a_time_that_cannot_be_read_is_none(text: str | None) -> None:
    """A malformed time in an object does not end the command."""
    assert parse_time(text) is None
    assert format_age(parse_time(text), NOW) == ""
