"""The Secrets that gates name, followed, and read into the address of a ledger."""

import asyncio
import logging
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
    """Where Secrets are read and watched."""

    def secret(self, namespace: str, name: str) -> Feed[Secret]:
        """Return the feed of one Secret."""


@dataclass(slots=True)
class _Followed:
    reflector: Reflector[Secret]
    task: asyncio.Task[None]
    failure: ClusterError | None = None


class SecretFollower:
    """The Secrets that gates name, each followed for as long as a gate names it.

    Args:
        group: where the reflectors run.
        on_change: called with the key of a Secret that was created, edited or deleted, or whose reading fails or works
            again.
    """

    def __init__(self, api: SecretApi, group: asyncio.TaskGroup, on_change: Callable[[Key], None]) -> None:
        self._api = api
        self._group = group
        self._on_change = on_change
        self._followed: dict[Key, _Followed] = {}

    def follow(self, key: Key) -> None:
        """Follow a Secret, unless it is followed already."""
        if key not in self._followed:
            reflector = Reflector(
                self._api.secret(*key),
                lambda _old, _new: self._on_change(key),
                on_failure=lambda failure: self._failed(key, failure),
            )
            self._followed[key] = _Followed(reflector, self._group.create_task(reflector.run()))

    def unfollow(self, key: Key) -> None:
        """Stop following a Secret."""
        followed = self._followed.pop(key, None)
        if followed is not None:
            followed.task.cancel()

    def source(self, gate: Gate) -> tuple[LedgerSource | None, Problem | None]:
        """Return where a gate's ledger is, or why that is not known; neither while the answer is on its way."""
        if gate.dialect not in DIALECTS:
            return None, None  # parse_gate has put it among the gate's problems
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
        except Exception:  # noqa: BLE001 - whatever a Secret holds keeps one gate from working, and no other
            log_event("secret.failed", level=logging.ERROR, trace=True, namespace=key[0], secret=key[1])
            return None, Problem(f"Secret {gate.secret}: the address of the database cannot be read; correct it")
        return LedgerSource(address, DIALECTS[gate.dialect], gate.schema or address.schema, gate.table), None

    def _failed(self, key: Key, failure: ClusterError | None) -> None:
        """Note a failure, or that reading works.

        That it works is news even where there was no failure: a first list that is empty calls no change handler, and
        means that the Secret does not exist.
        """
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
        return None  # the first answer is on its way
    return Problem(f"Secret {name} does not exist in namespace {namespace}; create it")
