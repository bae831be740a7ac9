"""AdmissionReview JSON to values and back, and the JSON patches that we answer with.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request
"""

import base64
from http import HTTPStatus
from typing import Any

import msgspec

from webhook.objects import GATED_LABEL, SCHEDULING_GATE, Pod, Struct

API = "admission.k8s.io/v1"
WARNING_LIMIT = 120
"""Characters of one warning that every client shows whole (Kubernetes' advice for warnings)."""

Patch = list[dict[str, Any]]
"""A JSON patch (RFC 6902)."""


class ReviewError(ValueError):
    """The request is no AdmissionReview that can be answered; the message says what is missing."""


class Request(Struct, frozen=True):
    """The part of an AdmissionRequest that we look at."""

    uid: str
    operation: str
    namespace: str = ""
    name: str = ""
    object: Pod | None = None
    old_object: Pod | None = None


class _Review(Struct, frozen=True):
    api_version: str = ""
    kind: str = ""
    request: Request | None = None


# Nesting of a hundred thousand brackets is a RecursionError, also where it is only skipped.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decoder = msgspec.json.Decoder(_Review)
_encoder = msgspec.json.Encoder()


def decode_review(body: bytes) -> Request:
    """Read an AdmissionReview about a pod.

    Raises:
        ReviewError: the body is empty, not JSON, or no review of ``admission.k8s.io/v1`` with a uid and an object.
    """
    if not body:
        raise ReviewError("the body is empty; expected an AdmissionReview")
    try:
        review = _decoder.decode(body)
    except _UNREADABLE as error:
        raise ReviewError(f"the body is no AdmissionReview: {error}") from error
    if review.kind != "AdmissionReview" or review.api_version != API:
        raise ReviewError(f"expected an AdmissionReview of {API}, got {review.kind!r} of {review.api_version!r}")
    if review.request is None or not review.request.uid:
        raise ReviewError("the AdmissionReview has no request with a uid")
    if review.request.object is None:
        raise ReviewError("the AdmissionReview's request has no object")
    return review.request


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
        warnings: shown by kubectl; cut to :data:`WARNING_LIMIT` characters, without control characters, since the API
            server drops the ones that have any.
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
        response["warnings"] = [shorten(warning) for warning in warnings]
    if patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(_encoder.encode(patch)).decode()
    return _encoder.encode({"apiVersion": API, "kind": "AdmissionReview", "response": response})


def shorten(text: str) -> str:
    """Make a text fit for a warning: printable, at most :data:`WARNING_LIMIT` characters."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= WARNING_LIMIT else f"{clean[: WARNING_LIMIT - 1]}…"


def hold_patch(pod: Pod) -> Patch:
    """Put our gate and label on a pod, leaving what is there; empty where both are on it already."""
    patch: Patch = []
    if pod.gate_index is None:
        ours = {"name": SCHEDULING_GATE}
        if pod.spec.scheduling_gates:
            patch.append({"op": "add", "path": "/spec/schedulingGates/-", "value": ours})
        else:
            patch.append({"op": "add", "path": "/spec/schedulingGates", "value": [ours]})
    if pod.labels.get(GATED_LABEL) != "true":
        if pod.metadata.labels is None:
            patch.append({"op": "add", "path": "/metadata/labels", "value": {GATED_LABEL: "true"}})
        else:
            patch.append({"op": "add", "path": _LABEL_PATH, "value": "true"})
    return patch


def admit_patch(pod: Pod) -> Patch:
    """Take our gate and label off a pod that is being created; empty where neither is on it."""
    patch = release_patch(pod)
    if GATED_LABEL in pod.labels:
        patch.append({"op": "remove", "path": _LABEL_PATH})
    return patch


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
