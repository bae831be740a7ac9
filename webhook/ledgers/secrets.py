"""Where a gate's ledger is: the Secret that it names, followed, and read into an address."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from migrations.dialects.catalogue import DIALECTS
from migrations.postgres.address import Address, AddressError
from migrations.reader.reader import LedgerSource
from webhook.api.objects import Secret
from webhook.core.gate import Gate
from webhook.core.status import Problem
from webhook.kube.errors import ClusterError, Forbidden
from webhook.kube.reflector import Feed, Key, Reflector
from webhook.telemetry import log_event


class SecretApi(Protocol):
    """Where Secrets are found."""

    def secret(self, namespace: str, name: str) -> Feed[Secret]:
        """One Secret."""


@dataclass(slots=True)
class _Followed:
    reflector: Reflector[Secret]
    task: asyncio.Task[None]
    failure: ClusterError | None = None


class SecretFollower:
    """The Secrets that gates name, each followed for as long as one names it.

    Args:
        group: where they are followed.
        on_change: called with the key of a Secret that has changed, come, gone, or become unreadable.
    """

    def __init__(self, secrets: SecretApi, group: asyncio.TaskGroup, on_change: Callable[[Key], None]) -> None:
        self._secrets = secrets
        self._group = group
        self._on_change = on_change
        self._followed: dict[Key, _Followed] = {}

    def follow(self, key: Key) -> None:
        """Follow a Secret, if that is not done already."""
        if key not in self._followed:
            reflector = Reflector(
                self._secrets.secret(*key),
                lambda _old, _new: self._on_change(key),
                on_failure=lambda failure: self._failed(key, failure),
            )
            self._followed[key] = _Followed(reflector, self._group.create_task(reflector.run()))

    def unfollow(self, key: Key) -> None:
        """Let a Secret go."""
        followed = self._followed.pop(key, None)
        if followed is not None:
            followed.task.cancel()

    def source(self, gate: Gate) -> tuple[LedgerSource | None, Problem | None]:
        """Find where a gate's ledger is, or why that is not known; neither where the answer is on its way."""
        if gate.dialect not in DIALECTS:
            return None, None  # already among the gate's own problems
        key = gate.namespace, gate.secret
        secret = self._followed[key].reflector.objects.get(key)
        if secret is None:
            return None, _missing(key, self._followed[key])
        try:
            address = Address.from_secret({name: value.decode() for name, value in (secret.data or {}).items()})
        except UnicodeDecodeError:
            return None, Problem(f"Secret {gate.secret}: a value is not UTF-8 text")
        except AddressError as error:
            return None, Problem(f"Secret {gate.secret}: {error}")
        return LedgerSource(address, DIALECTS[gate.dialect], gate.schema, gate.table), None

    def _failed(self, key: Key, failure: ClusterError | None) -> None:
        """Note a failure, or its end. The end of the first listing of nothing is news too: there is no such Secret."""
        followed = self._followed.get(key)
        if followed is None:
            return
        before, followed.failure = followed.failure, failure
        if failure is not None and type(failure) is not type(before):
            log_event("secret.unreadable", namespace=key[0], secret=key[1], error=str(failure))
        if failure is None or type(failure) is not type(before):
            self._on_change(key)


def _missing(key: Key, followed: _Followed) -> Problem | None:
    namespace, name = key
    if isinstance(followed.failure, Forbidden):
        return Problem(
            f"Secret {name} may not be read: grant get and watch on it to ledgergate's service accounts, with "
            f"`kubectl create role ledgergate-database -n {namespace} --verb=get,watch --resource=secrets "
            f"--resource-name={name}` and a RoleBinding"
        )
    if followed.failure is not None:
        return Problem(f"Secret {name} cannot be read now", transient=True)
    if not followed.reflector.synced:
        return None  # not asked yet; it is no problem of the gate's, and it is over in a moment
    return Problem(f"Secret {name} does not exist in namespace {namespace}; create it")
