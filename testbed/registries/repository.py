"""Repositories of a registry on this machine whose images declare a revision, and the controller's flags to ask it."""

import asyncio
from dataclasses import dataclass

from testbed.registries.images import REVISION, Pusher, RegistryImage
from testbed.registries.server import Registry


@dataclass(frozen=True)
class Images:
    """One repository of a registry.

    Args:
        server: the registry.
        repository: name of the repository.
    """

    server: Registry
    repository: str

    def push(self, tag: str, revision: str | None, repository: str | None = None, **labels: str) -> str:
        """Push an image whose label declares a revision (none for None), and return its reference."""
        name = repository or self.repository
        all_labels = {**({} if revision is None else {REVISION: revision}), **labels}
        asyncio.run(Pusher(self.server.url, name).image(RegistryImage(all_labels), tag))
        return f"{self.server.authority}/{name}:{tag}"

    def manifest_reads(self) -> int:
        """Return how many manifests of this repository, and those below it, were read or looked up."""
        lines = [line for line in self.server.log.splitlines() if f"/v2/{self.repository}" in line]
        return sum(1 for line in lines if '"GET /v2' in line and "/manifests/" in line)


def controller_flags(registry: Registry) -> tuple[str, ...]:
    """Return the controller's flags with which it may ask a registry on plain HTTP."""
    networks = ("--registry-allow-network", "127.0.0.0/8", "--registry-allow-network", "::1/128")
    return "--registry-plain-http", registry.authority, *networks
