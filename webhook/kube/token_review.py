"""Decide who may read the metrics: the API server is asked whose a bearer token is, and what that account may get.

The usual way of controllers (kube-rbac-proxy, controller-runtime): TokenReview, then SubjectAccessReview of the path.
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from enum import Enum

import msgspec

from webhook.api.objects import Struct
from webhook.kube.client import KubeClient
from webhook.kube.errors import ClusterError
from webhook.telemetry import log_event

REMEMBERED_SECONDS = 60.0
"""A token that was revoked counts for so long; Prometheus asks every 15 s."""
MAX_REMEMBERED = 256
PARALLEL = 4
"""Requests to the API server at a time. Every client that reaches the port can send tokens."""
LONGEST_TOKEN = 16_384


class Access(Enum):
    """What a bearer token gives."""

    GRANTED = "granted"
    UNKNOWN = "unknown"
    """It is no token of this cluster."""
    REFUSED = "refused"
    """Its account may not read the path."""
    UNDECIDED = "undecided"
    """The API server does not answer."""


class _User(Struct, frozen=True):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] | None = None


class _TokenStatus(Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()


class _AccessStatus(Struct, frozen=True):
    allowed: bool = False


class _TokenReview(Struct, frozen=True):
    status: _TokenStatus = _TokenStatus()


class _AccessReview(Struct, frozen=True):
    status: _AccessStatus = _AccessStatus()


class TokenAuthorizer:
    """Decides about bearer tokens, and remembers what it has decided for a minute.

    Args:
        path: the path that an account has to be allowed to get, a `nonResourceURLs` of a ClusterRole.
        clock: seconds of a clock that never jumps.
    """

    def __init__(self, cluster: KubeClient, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._path = path
        self._clock = clock
        self._asking = asyncio.Semaphore(PARALLEL)
        self._known: dict[bytes, tuple[float, Access]] = {}

    async def access(self, token: str) -> Access:
        """Return what a token gives."""
        if not token or len(token) > LONGEST_TOKEN or not token.isascii():
            return Access.UNKNOWN
        digest = hashlib.sha256(token.encode()).digest()  # so that no token stays in memory
        until, known = self._known.get(digest, (0.0, Access.UNDECIDED))
        if self._clock() < until:
            return known
        try:
            async with self._asking:
                found = await self._ask(token)
        except ClusterError as error:
            log_event("metrics.undecided", error=str(error))
            return Access.UNDECIDED
        self._known.pop(digest, None)
        while len(self._known) >= MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[digest] = self._clock() + REMEMBERED_SECONDS, found
        return found

    async def _ask(self, token: str) -> Access:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        answer = await self._cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body=body)
        status = msgspec.json.decode(answer, type=_TokenReview).status
        if not status.authenticated:
            return Access.UNKNOWN
        user = status.user
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": user.groups,
            "extra": user.extra or {},
            "nonResourceAttributes": {"path": self._path, "verb": "get"},
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = await self._cluster.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=body)
        allowed = msgspec.json.decode(answer, type=_AccessReview).status.allowed
        return Access.GRANTED if allowed else Access.REFUSED
