"""LedgerGates and Secrets in memory, listed and watched as from an API server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from webhook.api.objects import LedgerGate, Metadata, Secret
from webhook.kube.errors import NotFound, Unavailable
from webhook.kube.reflector import Change, ChangeKind, Feed, Key

_versions = iter(range(10, 100_000))


class Collection:
    """A collection that a test changes."""

    def __init__(self, *items: Any) -> None:
        self.items: dict[Key, Any] = {item.metadata.key: item for item in items}
        self.refusal: Exception | None = None
        self._changes: asyncio.Queue[Change[Any] | Exception] = asyncio.Queue()
        self._version = 1

    async def list_objects(self) -> tuple[list[Any], str]:
        """List it, unless a refusal is set."""
        if self.refusal is not None:
            raise self.refusal
        return list(self.items.values()), str(self._version)

    async def watch(self, resource_version: str) -> AsyncIterator[Change[Any]]:
        """Watch it."""
        del resource_version
        while True:
            change = await self._changes.get()
            if isinstance(change, Exception):
                raise change
            yield change

    def put(self, found: Any) -> None:
        """Create or change an object."""
        self._version += 1
        self.items[found.metadata.key] = found
        self._changes.put_nowait(Change(ChangeKind.MODIFIED, str(self._version), found))

    def remove(self, key: Key) -> None:
        """Delete an object."""
        self._version += 1
        self._changes.put_nowait(Change(ChangeKind.DELETED, str(self._version), self.items.pop(key)))

    def cut(self) -> None:
        """End the watch, so that the collection is listed again."""
        self._changes.put_nowait(Unavailable("cut"))


class Objects:
    """Gates and Secrets; `asked` shows which Secrets were read."""

    def __init__(self) -> None:
        self.gates = Collection()
        self.secrets: dict[Key, Secret] = {}
        self.refusal: Exception | None = None
        self.asked: list[Key] = []

    def ledger_gates(self) -> Feed[LedgerGate]:
        """Return the feed of every gate."""
        return self.gates

    async def read_secret(self, namespace: str, name: str) -> Secret:
        """Read one Secret, unless a refusal is set."""
        self.asked.append((namespace, name))
        if self.refusal is not None:
            raise self.refusal
        if (namespace, name) not in self.secrets:
            raise NotFound("404: not found")
        return self.secrets[namespace, name]


def a_gate(
    name: str = "app",
    secret: str = "pg",  # noqa: S107 - its name
    status: dict[str, Any] | None = None,
    created: str = "2026-01-01T00:00:00Z",
    **spec: Any,
) -> LedgerGate:
    """Return a LedgerGate that selects every pod of its namespace."""
    whole = {"selector": {}, "database": {"secretRef": {"name": secret}}, "ledger": {"dialect": "ledgergate"}, **spec}
    metadata = {"namespace": "ns", "name": name, "uid": name, "resourceVersion": str(next(_versions))}
    metadata["creationTimestamp"] = created
    return msgspec.convert({"metadata": metadata, "spec": whole, "status": status or {}}, LedgerGate)


def a_secret(url: str, name: str = "pg") -> Secret:
    """Return a Secret with a database's address."""
    metadata = Metadata(namespace="ns", name=name, resource_version=str(next(_versions)))
    return Secret(metadata=metadata, data={"url": url.encode()})


async def until(probe: Callable[[], Any]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(120):
        while not probe():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)
