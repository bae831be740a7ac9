"""AdmissionReviews decoded and encoded, and patches applied to pods as the API server has them."""

import base64
import copy
import json
from enum import Enum
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.json_patch import apply
from webhook.admission.review import WARNING_LIMIT, ReviewError, decode_review, encode_response, shorten
from webhook.api.objects import GATED_LABEL, SCHEDULING_GATE, Pod
from webhook.api.workload import Workload
from webhook.core.patches import condition_type, creation_patch, release_patch

OURS = {"name": SCHEDULING_GATE}
OTHER = {"name": "example.com/quota"}


class Missing(Enum):
    """An absent field, which is not null; an enum, whose name is the same in every xdist worker."""

    FIELD = "missing"


MISSING = Missing.FIELD


def pod(gates: Any = MISSING, labels: Any = MISSING, readiness: Any = MISSING) -> dict[str, Any]:
    """Return a pod as it arrives, with these gates and labels: any JSON, or no such field."""
    found: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "web-", "namespace": "ns", "annotations": {"a": "b"}},
        "spec": {"containers": [{"name": "main", "image": "app", "resources": {}}], "tolerations": []},
    }
    if gates is not MISSING:
        found["spec"]["schedulingGates"] = gates
    if labels is not MISSING:
        found["metadata"]["labels"] = labels
    if readiness is not MISSING:
        found["spec"]["readinessGates"] = readiness
    return found


def typed(found: dict[str, Any]) -> Pod:
    return msgspec.convert(found, Pod)


GATES = [MISSING, None, [], [OTHER], [OURS], [OTHER, OURS], [OURS, OTHER]]
LABELS = [MISSING, None, {}, {"app": "x"}, {GATED_LABEL: "true"}, {GATED_LABEL: "no", "app": "x"}]


def others(found: dict[str, Any]) -> dict[str, Any]:
    """Return a pod without ledgergate's gate and label, and without the difference between empty and absent."""
    rest = copy.deepcopy(found)
    rest["spec"]["schedulingGates"] = [gate for gate in rest["spec"].get("schedulingGates") or [] if gate != OURS]
    labels = rest["metadata"].get("labels") or {}
    rest["metadata"]["labels"] = {key: value for key, value in labels.items() if key != GATED_LABEL}
    return rest


@pytest.mark.parametrize("gates", GATES, ids=str)
@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_a_hold_puts_gate_and_label_on_and_nothing_else(gates: Any, labels: Any) -> None:
    """Whatever a pod comes with, it has the gate once and the label afterwards; all else is unchanged."""
    before = pod(gates, labels)
    after = apply(before, creation_patch(typed(before), hold=True))
    assert after["spec"]["schedulingGates"].count(OURS) == 1
    assert after["metadata"]["labels"][GATED_LABEL] == "true"
    assert others(after) == others(before)
    assert creation_patch(typed(after), hold=True) == []


@pytest.mark.parametrize("gates", GATES, ids=str)
@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_an_admission_takes_gate_and_label_off_and_nothing_else(gates: Any, labels: Any) -> None:
    """Whatever a pod comes with, gate and label are gone afterwards; other tools' gates and all else stay."""
    before = pod(gates, labels)
    after = apply(before, creation_patch(typed(before), hold=False))
    assert OURS not in (after["spec"].get("schedulingGates") or [])
    assert GATED_LABEL not in (after["metadata"].get("labels") or {})
    assert others(after) == others(before)
    assert creation_patch(typed(after), hold=False) == []


THEIRS, OURS_READY = {"conditionType": "example.com/ready"}, {"conditionType": "ledgergate.dev/app"}
READINESS = [MISSING, None, [], [THEIRS], [OURS_READY], [THEIRS, OURS_READY]]


@pytest.mark.parametrize("readiness", READINESS, ids=str)
@pytest.mark.parametrize("labels", LABELS, ids=str)
@pytest.mark.parametrize("hold", [True, False])
def test_readiness_gates_are_added_and_the_label_with_them(readiness: Any, labels: Any, hold: bool) -> None:
    """Each is there once, others stay; the label is added also without a hold, since the controller watches by it."""
    before = pod([OTHER], labels, readiness)
    wanted = (condition_type("app"), condition_type("other.app"))
    after = apply(before, creation_patch(typed(before), hold=hold, conditions=wanted))
    conditions = [gate["conditionType"] for gate in after["spec"]["readinessGates"]]
    assert sorted(conditions) == sorted({*wanted, *(gate["conditionType"] for gate in before_gates(readiness))})
    assert after["metadata"]["labels"][GATED_LABEL] == "true"
    assert (OURS in after["spec"]["schedulingGates"]) is hold
    assert creation_patch(typed(after), hold=hold, conditions=wanted) == []
    del after["spec"]["readinessGates"]
    before["spec"].pop("readinessGates", None)
    assert others(after) == others(before)


def before_gates(readiness: Any) -> list[dict[str, str]]:
    return readiness if isinstance(readiness, list) else []


def test_a_bound_pod_gets_readiness_gates_and_no_scheduling_gate() -> None:
    """On a pod with a node the API server accepts a readiness gate and refuses a scheduling gate."""
    before = pod()
    before["spec"]["nodeName"] = "node-0"
    after = apply(before, creation_patch(typed(before), hold=True, conditions=("ledgergate.dev/app",)))
    assert after["spec"]["readinessGates"] == [OURS_READY]
    assert "schedulingGates" not in after["spec"]


@pytest.mark.parametrize("gates", GATES, ids=str)
def test_a_release_removes_our_gate_only(gates: Any) -> None:
    """The label stays: a release of a running system changes one thing only."""
    before = pod(gates, {GATED_LABEL: "true"})
    after = apply(before, release_patch(typed(before)))
    assert OURS not in (after["spec"].get("schedulingGates") or [])
    assert others(after) == others(before)
    assert after["metadata"] == before["metadata"]


def test_a_release_never_takes_another_tools_gate() -> None:
    """Where the list has changed since it was read, the patch fails instead of removing another entry."""
    patch = release_patch(typed(pod([OURS, OTHER])))
    with pytest.raises(AssertionError):
        apply(pod([OTHER]), patch)


def review(**request: Any) -> bytes:
    whole = {"uid": "u-1", "operation": "CREATE", "namespace": "ns", "object": pod(), **request}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": whole}).encode()


def test_a_review_is_read() -> None:
    """Every field that a decision needs is decoded; nulls and unknown fields are accepted."""
    found = decode_review(
        review(
            oldObject=None,
            options=None,
            dryRun=True,
            userInfo={"username": "jane", "groups": ["a"], "extra": {"x": ["y"]}},
            object=pod([OURS], None) | {"status": {"conditions": None}},
        ),
        Pod,
    )
    assert (found.uid, found.operation, found.namespace) == ("u-1", "CREATE", "ns")
    assert found.object is not None
    assert found.object.held
    assert found.object.labels == {}
    assert found.old_object is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b" ", "not an AdmissionReview"),
        (b"hello", "not an AdmissionReview"),
        (b"null", "not an AdmissionReview"),
        (b"[]", "not an AdmissionReview"),
        (b"{}", "expected an AdmissionReview of admission.k8s.io/v1, got '' of ''"),
        (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"', "not an AdmissionReview"),
        (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}', "no request with a uid"),
        (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}', "no request with a uid"),
        (review().replace(b"/v1", b"/v1beta1"), "got 'AdmissionReview' of 'admission.k8s.io/v1beta1'"),
        (review().replace(b'"AdmissionReview"', b'"Pod"'), "got 'Pod'"),
        (review(uid=""), "no request with a uid"),
        (review(uid=None), "uid"),
        (review(uid=7), "uid"),
        (review().replace(b'"uid": "u-1", ', b""), "uid"),
        (review(object=None), "no object"),
        (review(object=None, operation="DELETE"), "no object"),
        (review(object=[]), "not an AdmissionReview"),
        (review(namespace=""), "no namespace"),
        (review(object={"spec": {"schedulingGates": [{}]}}), "schedulingGates"),
        (review(object={"metadata": {"labels": {"a": 1}}}), "labels"),
        (review().replace(b"u-1", b"\xff\xfe"), "not an AdmissionReview"),
        (review(object={"metadata": {"generation": 7}}).replace(b"7", b"7" * 10_000), "generation"),
        (review(object={"metadata": {"generation": 1e300}}), "generation"),
        (b'{"request":' * 100_000, "not an AdmissionReview"),
        (review()[:-1] + b',"extra":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not an AdmissionReview"),
    ],
    ids=lambda value: str(value[:60]),
)
def test_a_body_that_is_not_a_review_is_refused_with_the_reason(body: bytes, message: str) -> None:
    """Every broken body raises the same error, whose message says what is missing."""
    with pytest.raises(ReviewError, match=message.replace("(", r"\(")):
        decode_review(body, Pod)


@given(st.binary(max_size=200) | st.text('{}[]",:null0123uidrequest \\', max_size=200).map(str.encode))
def test_no_body_breaks_the_reader(body: bytes) -> None:
    """Any bytes are decoded or refused."""
    with pytest.raises(ReviewError):
        decode_review(body, Pod)


def answer(**given: Any) -> Any:
    whole = json.loads(encode_response("u-1", **given))
    assert (whole["apiVersion"], whole["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert whole["response"]["uid"] == "u-1"
    return whole["response"]


def test_a_plain_yes() -> None:
    """Empty fields are left out."""
    assert answer() == {"uid": "u-1", "allowed": True}
    assert answer(patch=[], warnings=()) == {"uid": "u-1", "allowed": True}


def test_a_refusal_says_why() -> None:
    """The message reaches the user; the API server reports any refusal as Forbidden."""
    status = answer(allowed=False, message="because")["status"]
    assert status == {"code": 403, "reason": "Forbidden", "message": "because"}
    assert answer(allowed=False, message="oops", code=500)["status"]["reason"] == "InternalError"


def test_a_patch_is_sent_as_the_api_wants_it() -> None:
    """Base64 of a JSON patch, with its type."""
    patch = creation_patch(typed(pod()), hold=True)
    found = answer(patch=patch)
    assert found["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(found["patch"])) == patch


def test_a_broken_review_is_not_echoed_at_length() -> None:
    """An error repeats a few words of the request at most."""
    for body in (
        json.dumps({"apiVersion": "x" * 10_000, "kind": "y" * 10_000}).encode(),
        review(object={"metadata": {"labels": {"z" * 10_000: 1}}}),
    ):
        with pytest.raises(ReviewError) as refusal:
            decode_review(body, Pod)
        assert len(str(refusal.value)) < 200


WARNED = st.text("ab \n\t\r\0\x1b\x7f\u00a0\u2028\u202eé漢😀", max_size=400)


@settings(deadline=None)
@given(st.lists(WARNED, max_size=8))
def test_warnings_survive_the_api_server(texts: list[str]) -> None:
    """Whatever the text: printable and short, since the API server drops control characters and what is too long."""
    pieces = answer(warnings=tuple(texts)).get("warnings", [])
    assert all(piece.isprintable() and 0 < len(piece) <= WARNING_LIMIT for piece in pieces)


def test_warnings_stay_below_the_api_servers_limit() -> None:
    """Beyond 4096 characters it would drop all of them."""
    pieces = answer(warnings=("x" * WARNING_LIMIT,) * 60)["warnings"]
    assert len(pieces) >= 30
    assert sum(map(len, pieces)) <= 4096


def test_a_long_warning_is_split() -> None:
    """No text is lost, and a short warning is unchanged."""
    a, b = "a" * 80, "b" * 80
    text = f"ledger app is at {a}, the pod expects {b}: the pod starts all the same"
    assert answer(warnings=("short", text, "no clause " * 13))["warnings"] == [
        "short",
        f"ledger app is at {a},",
        f"the pod expects {b}:",
        "the pod starts all the same",
        ("no clause " * 12).strip(),
        "no clause",
    ]


def test_names_are_cut_visibly() -> None:
    """The limit itself still fits."""
    assert shorten("é" * WARNING_LIMIT) == "é" * WARNING_LIMIT
    assert shorten("x" * (WARNING_LIMIT + 1)) == "x" * (WARNING_LIMIT - 1) + "…"
    assert shorten("a\nb" * 9, 5) == "a ba…"


def test_a_workload_is_read_as_one() -> None:
    """The same decoder with another type: nulls and unknown fields are accepted."""
    template = {"metadata": {"creationTimestamp": None, "labels": {"app": "x"}}, "spec": {"containers": []}}
    spec = {"replicas": 3, "template": template, "strategy": {"type": "Recreate", "rollingUpdate": None}}
    subject = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    found = decode_review(review(object=subject, dryRun=True), Workload)
    assert found.object is not None
    assert found.object.title == "deployment/web"
    assert found.object.pod is not None
    assert found.object.pod.labels == {"app": "x"}
    assert found.object.removes_first
    assert found.dry_run
