"""Images that were read are known, and each is read once."""

import asyncio
import re

import pytest

from testbed.registries.images import REVISION, Pusher, RegistryImage
from testbed.registries.server import Registry
from webhook.registries.client import RegistryClient
from webhook.registries.memory import ImageMemory
from webhook.registries.result import ImageLabels, Unresolved


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time of the test."""
        return self.now


def manifests_read(registry: Registry, repository: str, method: str = "GET") -> int:
    """Count the requests for a repository's manifests in the registry's access log."""
    return len(re.findall(rf'"{method} /v2/{repository}[^/]*/manifests/[^"]*" 200', registry.log))


def revision_of(found: ImageLabels | Unresolved | None) -> str | None:
    assert isinstance(found, ImageLabels), str(found)
    return found.revision


async def test_three_hundred_pods_of_twenty_images(client: RegistryClient, registry: Registry, repository: str) -> None:
    """All at once: each manifest is read once. Once known, a thousand more ask for nothing."""
    references = []
    for number in range(20):
        await Pusher(registry.url, f"{repository}-{number}").image(RegistryImage({REVISION: f"{number}_a"}), "1")
        references.append(f"{registry.authority}/{repository}-{number}:1")
    memory = ImageMemory(client, Clock())
    found = await asyncio.gather(*(memory.find("shop", references[pod % 20]) for pod in range(300)))
    assert [revision_of(each) for each in found] == [f"{pod % 20}_a" for pod in range(300)]
    assert manifests_read(registry, repository) == 20
    await asyncio.gather(*(memory.find("shop", references[pod % 20]) for pod in range(1000)))
    assert manifests_read(registry, repository) == 20


async def test_a_tag_is_looked_up_again(
    client: RegistryClient, registry: Registry, pusher: Pusher, repository: str
) -> None:
    """At most once a minute, by its digest while that is the same; a moved one is read, one that moves back known."""
    clock = Clock()
    memory = ImageMemory(client, clock)
    reference = f"{registry.authority}/{repository}:latest"
    await pusher.image(RegistryImage({REVISION: "1_a"}), "latest")
    assert revision_of(await memory.find("shop", reference)) == "1_a"
    await pusher.image(RegistryImage({REVISION: "2_b"}), "latest")
    clock.now = 59
    assert revision_of(await memory.find("shop", reference)) == "1_a"
    clock.now = 61
    assert revision_of(await memory.find("shop", reference)) == "2_b"
    assert manifests_read(registry, repository) == 2
    await pusher.image(RegistryImage({REVISION: "1_a"}), "latest")
    clock.now = 122
    assert revision_of(await memory.find("shop", reference)) == "1_a"
    clock.now = 183
    assert revision_of(await memory.find("shop", reference)) == "1_a"
    assert manifests_read(registry, repository) == 2
    assert manifests_read(registry, repository, "HEAD") == 3


async def test_a_registry_that_is_down_takes_nothing_away(
    client: RegistryClient, registry: Registry, pusher: Pusher, repository: str
) -> None:
    """What was read stays known; what was not is tried again after a pause, and found when the registry is back."""
    clock = Clock()
    memory = ImageMemory(client, clock)
    known, unknown = (f"{registry.authority}/{repository}:{tag}" for tag in ("1", "2"))
    digest = await pusher.image(RegistryImage({REVISION: "1_a"}), "1")
    await pusher.image(RegistryImage({REVISION: "2_b"}), "2")
    await memory.find("shop", known)
    clock.now = 100
    registry.stop()
    try:
        assert revision_of(await memory.find("shop", known)) == "1_a"
        assert revision_of(await memory.find("shop", f"{registry.authority}/{repository}@{digest}")) == "1_a"
        assert isinstance(await memory.find("shop", unknown), Unresolved)
    finally:
        registry.start()
    assert isinstance(await memory.find("shop", unknown), Unresolved)  # not asked again yet
    clock.now = 106
    assert revision_of(await memory.find("shop", unknown)) == "2_b"


async def test_scopes_know_nothing_of_each_other(
    client: RegistryClient, registry: Registry, pusher: Pusher, repository: str
) -> None:
    """What one namespace's pull secret has opened is not known in another."""
    memory = ImageMemory(client, Clock())
    reference = f"{registry.authority}/{repository}:1"
    await pusher.image(RegistryImage({REVISION: "1_a"}), "1")
    found = await memory.find("shop", reference)
    assert isinstance(found, ImageLabels)
    assert memory.recall("shop", reference) == memory.recall("shop", found.reference) == found
    assert memory.recall("other", reference) is None
    memory.learn("other", [found])
    assert memory.recall("other", found.reference) == found
    assert memory.recall("other", reference) is None


async def test_it_is_bounded(client: RegistryClient) -> None:
    """A tenant's names, however many and however long, take no more than the capacity."""
    memory = ImageMemory(client, Clock(), capacity=10)
    for number in range(50):
        assert isinstance(await memory.find("shop", f"UPPER-{number}" + "x" * 10_000), Unresolved)
    assert len(memory._known) == 10
    assert max(len(reference) for _, reference in memory._known) <= 600


async def test_one_who_gives_up_does_not_end_the_reading(
    client: RegistryClient, registry: Registry, pusher: Pusher, repository: str
) -> None:
    """The others get the result; closing ends what still runs."""
    memory = ImageMemory(client, Clock())
    reference = f"{registry.authority}/{repository}:1"
    await pusher.image(RegistryImage({REVISION: "1_a"}), "1")
    first, second = (asyncio.create_task(memory.find("shop", reference)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert revision_of(await second) == "1_a"
    third = asyncio.create_task(memory.find("other", reference))
    await asyncio.sleep(0)
    await memory.close()
    with pytest.raises(asyncio.CancelledError):
        await third
