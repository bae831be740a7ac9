"""AdmissionReview JSON to values and back, and the JSON patches that we answer with.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request
"""

import base64
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import msgspec

from webhook.api.objects import Pod, Struct
from webhook.api.workload import Workload
from webhook.core.patches import Patch

API = "admission.k8s.io/v1"
WARNING_LIMIT = 120
"""Characters of one warning that every client shows whole (Kubernetes' advice for warnings)."""

_WARNINGS = 30
_ECHOED = 40
"""Characters of a stranger's words that an error repeats."""


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
