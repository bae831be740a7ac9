"""AdmissionReview JSON to values and back, and the JSON patches that we answer with.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request
"""

import base64
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import msgspec

from webhook.objects import API_GROUP, GATED_LABEL, SCHEDULING_GATE, Pod, Struct
from webhook.workload import Workload

API = "admission.k8s.io/v1"
WARNING_LIMIT = 120
"""Characters of one warning that every client shows whole (Kubernetes' advice for warnings)."""

_WARNINGS = 30
_ECHOED = 40
"""Characters of a stranger's words that an error repeats."""

Patch = list[dict[str, Any]]
"""A JSON patch (RFC 6902)."""


class ReviewError(ValueError):
    """The request is no AdmissionReview that can be answered; the message says what is missing."""


T = TypeVar("T")


class Request(Struct, Generic[T], frozen=True):
    """The part of an AdmissionRequest that we look at, about one kind of object."""

    uid: str
    operation: str
    namespace: str = ""
    dry_run: bool | None = None
    object: T | None = None
    old_object: T | None = None


class _Review(Struct, Generic[T], frozen=True):
    api_version: str = ""
    kind: str = ""
    request: Request[T] | None = None


# Nesting of a hundred thousand brackets is a RecursionError, also where it is only skipped.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decoders: dict[type, msgspec.json.Decoder[Any]] = {
    Pod: msgspec.json.Decoder(_Review[Pod]),
    Workload: msgspec.json.Decoder(_Review[Workload]),
}
_encoder = msgspec.json.Encoder()


def decode_review(body: bytes, kind: type[T]) -> Request[T]:
    """Read an AdmissionReview about an object of a namespace.

    Args:
        kind: what the object is read as: :class:`Pod` or :class:`Workload`.

    Raises:
        ReviewError: the body is empty, not JSON, or no review of ``admission.k8s.io/v1`` with a uid, a namespace and an
            object.
    """
    if not body:
        raise ReviewError("the body is empty; expected an AdmissionReview")
    try:
        review: _Review[T] = _decoders[kind].decode(body)
    except _UNREADABLE as error:
        raise ReviewError(f"the body is no AdmissionReview: {shorten(str(error))}") from error
    if review.kind != "AdmissionReview" or review.api_version != API:
        found = f"{shorten(review.kind, _ECHOED)!r} of {shorten(review.api_version, _ECHOED)!r}"
        raise ReviewError(f"expected an AdmissionReview of {API}, got {found}")
    request = review.request
    if request is None or not request.uid:
        raise ReviewError("the AdmissionReview has no request with a uid")
    if request.object is None:
        raise ReviewError("the AdmissionReview's request has no object")
    if not request.namespace:
        raise ReviewError("the AdmissionReview's request has no namespace")
    return request


def encode_response(
    uid: str,
    *,
    allowed: bool = True,
    message: str = "",
    code: int = HTTPStatus.FORBIDDEN,
    warnings: tuple[str, ...] = (),
    patch: Patch | None = None,
) -> bytes:
    """Write the AdmissionReview that answers a request.

    Args:
        uid: the request's.
        message: what a refused person reads; empty where allowed.
        code: HTTP status of a refusal (the API server hands it on).
        warnings: shown by kubectl; broken into pieces of :data:`WARNING_LIMIT` characters, without control characters,
            since the API server drops the ones that have any, and all of them beyond 4096 characters.
        patch: what to change, None or empty for nothing.
    """
    response: dict[str, Any] = {"uid": uid, "allowed": allowed}
    if not allowed:
        response["status"] = {
            "code": code,
            "reason": "Forbidden" if code == HTTPStatus.FORBIDDEN else "InternalError",
            "message": message,
        }
    if warnings:
        response["warnings"] = [piece for warning in warnings for piece in _pieces(_printable(warning))][:_WARNINGS]
    if patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(_encoder.encode(patch)).decode()
    return _encoder.encode({"apiVersion": API, "kind": "AdmissionReview", "response": response})


def shorten(text: str, limit: int = WARNING_LIMIT) -> str:
    """Make a text fit for a warning: printable, at most ``limit`` characters."""
    clean = _printable(text)
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"


def _pieces(text: str) -> Iterator[str]:
    """Break a text into warnings, where a clause ends if one does, else between words."""
    rest = text.strip()
    while len(rest) > WARNING_LIMIT:
        within = rest[:WARNING_LIMIT]
        end = max(within.rfind(", "), within.rfind(": ")) + 1 or within.rfind(" ") + 1 or WARNING_LIMIT
        yield rest[:end].rstrip()
        rest = rest[end:].lstrip()
    if rest:
        yield rest


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def condition_type(gate: str) -> str:
    """Return the readiness gate, and so the pod condition, that stands for a LedgerGate."""
    return f"{API_GROUP}/{gate}"


def creation_patch(pod: Pod, *, hold: bool, conditions: Sequence[str] = ()) -> Patch:
    """Make a pod that is being created what it should be; empty where it is so already. Nothing else is touched.

    Args:
        hold: whether it should carry our scheduling gate. The API refuses one on a pod that has its node (KEP-3521), so
            that is left without.
        conditions: the readiness gates that it should have beside those that it has. They can be set at creation only
            (KEP-580).
    """
    hold = hold and not pod.spec.node_name
    patch = _scheduling_gate(pod) if hold else release_patch(pod)
    present = {gate.condition_type for gate in pod.spec.readiness_gates or ()}
    missing = [{"conditionType": wanted} for wanted in conditions if wanted not in present]
    if missing and not pod.spec.readiness_gates:
        patch.append({"op": "add", "path": "/spec/readinessGates", "value": missing})
    else:
        patch.extend({"op": "add", "path": "/spec/readinessGates/-", "value": gate} for gate in missing)
    # By this label the controller finds the pods whose conditions it keeps.
    return patch + _label(pod, wanted=hold or bool(conditions))


def _scheduling_gate(pod: Pod) -> Patch:
    if pod.gate_index is not None:
        return []
    ours = {"name": SCHEDULING_GATE}
    if pod.spec.scheduling_gates:
        return [{"op": "add", "path": "/spec/schedulingGates/-", "value": ours}]
    return [{"op": "add", "path": "/spec/schedulingGates", "value": [ours]}]


def _label(pod: Pod, *, wanted: bool) -> Patch:
    if not wanted:
        return [{"op": "remove", "path": _LABEL_PATH}] if GATED_LABEL in pod.labels else []
    if pod.labels.get(GATED_LABEL) == "true":
        return []
    if pod.metadata.labels is None:
        return [{"op": "add", "path": "/metadata/labels", "value": {GATED_LABEL: "true"}}]
    return [{"op": "add", "path": _LABEL_PATH, "value": "true"}]


def release_patch(pod: Pod) -> Patch:
    """Take our gate, and nothing else, off a pod.

    The ``test`` makes the patch fail, instead of taking off another tool's gate, where the list has changed since.
    """
    index = pod.gate_index
    if index is None:
        return []
    path = f"/spec/schedulingGates/{index}"
    return [{"op": "test", "path": f"{path}/name", "value": SCHEDULING_GATE}, {"op": "remove", "path": path}]


_LABEL_PATH = f"/metadata/labels/{GATED_LABEL.replace('~', '~0').replace('/', '~1')}"
