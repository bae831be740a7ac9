"""Decode AdmissionReviews, and encode the answers with their JSON patches.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request
"""

import base64
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import msgspec

from webhook.api.objects import LedgerGate, Pod, Struct
from webhook.api.workload import Workload
from webhook.core.patches import Patch

API = "admission.k8s.io/v1"
WARNING_LIMIT = 120
"""Characters of one warning that every client shows in full (Kubernetes' advice for warnings)."""

_MAX_WARNINGS = 30
"""Of 120 characters: together below the 4096 beyond which the API server drops them all."""
_ECHO_LIMIT = 40
"""Characters of a request's own text that an error repeats."""


class ReviewError(ValueError):
    """The body is not an AdmissionReview that can be answered; the message says what is missing."""


T = TypeVar("T")


class UserInfo(Struct, frozen=True):
    """Who sent a request to the API server."""

    username: str = ""


class Request(Struct, Generic[T], frozen=True):
    """The fields of an AdmissionRequest that decisions need, about one kind of object."""

    uid: str
    operation: str
    namespace: str = ""
    dry_run: bool | None = None
    user_info: UserInfo = UserInfo()
    object: T | None = None
    old_object: T | None = None


class _Review(Struct, Generic[T], frozen=True):
    api_version: str = ""
    kind: str = ""
    request: Request[T] | None = None


# msgspec recurses also into fields that it skips: a hundred thousand nested brackets raise RecursionError.
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decoders: dict[type, msgspec.json.Decoder[Any]] = {
    Pod: msgspec.json.Decoder(_Review[Pod]),
    Workload: msgspec.json.Decoder(_Review[Workload]),
    LedgerGate: msgspec.json.Decoder(_Review[LedgerGate]),
}
_encoder = msgspec.json.Encoder()


def decode_review(body: bytes, kind: type[T]) -> Request[T]:
    """Decode an AdmissionReview about a namespaced object.

    Args:
        kind: the type of the object: :class:`Pod`, :class:`Workload` or :class:`LedgerGate`.

    Raises:
        ReviewError: the body is empty, not JSON, or not a review of ``admission.k8s.io/v1`` with a uid, a namespace and
            an object.
    """
    if not body:
        raise ReviewError("the body is empty; expected an AdmissionReview")
    try:
        review: _Review[T] = _decoders[kind].decode(body)
    except _DECODE_ERRORS as error:
        raise ReviewError(f"the body is not an AdmissionReview: {shorten(str(error))}") from error
    if review.kind != "AdmissionReview" or review.api_version != API:
        found = f"{shorten(review.kind, _ECHO_LIMIT)!r} of {shorten(review.api_version, _ECHO_LIMIT)!r}"
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
    """Encode the AdmissionReview that answers a request.

    Args:
        uid: the request's.
        message: shown to the person whose request is refused; empty where it is allowed.
        code: HTTP status of a refusal, which the API server passes on.
        warnings: shown by kubectl; broken into pieces of :data:`WARNING_LIMIT` characters, without control characters:
            the API server drops a warning that has any, and all warnings beyond 4096 characters.
        patch: changes to the object; None or empty for none.
    """
    response: dict[str, Any] = {"uid": uid, "allowed": allowed}
    if not allowed:
        response["status"] = {
            "code": code,
            "reason": "Forbidden" if code == HTTPStatus.FORBIDDEN else "InternalError",
            "message": message,
        }
    if warnings:
        response["warnings"] = [piece for warning in warnings for piece in _split(_printable(warning))][:_MAX_WARNINGS]
    if patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(_encoder.encode(patch)).decode()
    return _encoder.encode({"apiVersion": API, "kind": "AdmissionReview", "response": response})


def shorten(text: str, limit: int = WARNING_LIMIT) -> str:
    """Return a text that fits a warning: printable, cut to ``limit`` characters with an ellipsis."""
    clean = _printable(text)
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"


def _split(text: str) -> Iterator[str]:
    """Yield a text in pieces of a warning's length, split after a clause if there is one, else between words."""
    rest = text.strip()
    while len(rest) > WARNING_LIMIT:
        within = rest[:WARNING_LIMIT]
        end = max(within.rfind(", "), within.rfind(": ")) + 1 or within.rfind(" ") + 1 or WARNING_LIMIT
        yield rest[:end].rstrip()
        rest = rest[end:].lstrip()
    if rest:
        yield rest


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)
