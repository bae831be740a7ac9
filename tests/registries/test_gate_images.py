"""What the controller does to know the images of a gate's pods, against a real registry."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from testbed.ports import free_ports
from testbed.registries.images import REVISION, Pusher, RegistryImage, index
from testbed.registries.server import Registry
from tests.registries.conftest import LOCAL, QUICK
from webhook.api.namespace import OptIn
from webhook.api.objects import Pod, Secret
from webhook.controller.images import FORGET_SECONDS, GateImages
from webhook.controller.pull_credentials import PullCredentialsReader
from webhook.core.gate import Gate
from webhook.core.images import ExpectedImage, ImageRecord, UnknownImage
from webhook.core.selector import Selector
from webhook.kube.errors import NotFound
from webhook.kube.reflector import Key
from webhook.registries.client import RegistryClient
from webhook.registries.memory import ImageMemory
from webhook.registries.settings import RegistrySettings
from webhook.telemetry import Telemetry

GATE = Gate("ns", "app", Selector(), "pg", "ledgergate", expect_image=ExpectedImage())
POD = msgspec.convert({"metadata": {"namespace": "ns", "name": "p"}}, Pod)


class NoSecrets:
    """A namespace without Secrets."""

    async def read_secret(self, namespace: str, name: str) -> Secret:
        """Raise that it is not there."""
        raise NotFound(f"{namespace}/{name}")


class Watched:
    """The gates of which more became known, and the images whose reading has ended."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self.ended: list[str] = []
        self.telemetry = Telemetry()

    def readings(self, result: str) -> float | None:
        """Return how many readings ended so."""
        return self.telemetry.registry.get_sample_value("ledgergate_image_readings_total", {"result": result})

    def __call__(self, gate: Key) -> None:
        """Note a change."""
        assert gate[1] == GATE.name
        self._changed.set()

    def read(self, namespace: str, reference: str) -> None:
        """Note the end of a reading."""
        assert namespace == GATE.namespace
        self.ended.append(reference)

    async def change(self) -> None:
        """Wait for the next change."""
        await asyncio.wait_for(self._changed.wait(), 15)
        self._changed.clear()


class Clock:
    """A clock that a test puts forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        """Return seconds."""
        return time.monotonic() + self.ahead

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC) + timedelta(seconds=self.ahead)


@asynccontextmanager
async def running(
    client: RegistryClient, opted_out: str = "", clock: Clock | None = None
) -> AsyncIterator[tuple[GateImages, Watched]]:
    """The images of gates, as a controller runs them."""
    watched, clock = Watched(), clock or Clock()
    images = GateImages(
        ImageMemory(client, clock.monotonic, refresh=59),
        PullCredentialsReader(NoSecrets()),
        watched.telemetry,
        admission=lambda namespace: OptIn.OFF if namespace == opted_out else OptIn.ENABLED,
        on_read=watched.read,
        on_change=watched,
        now=clock.now,
        monotonic=clock.monotonic,
    )
    task = asyncio.create_task(images.run())
    await asyncio.sleep(0)
    try:
        yield images, watched
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_reading_serves_every_pod(
    registry: Registry, client: RegistryClient, pusher: Pusher, repository: str
) -> None:
    """However many pods ask before it is known, and after: one manifest is read. The status names digest and tag."""
    digest = await pusher.image(RegistryImage({REVISION: "1_a"}), "1")
    reference = f"{registry.authority}/{repository}:1"
    async with running(client) as (images, watched):
        assert all(images.find(GATE, POD, reference) == UnknownImage(reference) for _ in range(100))
        await watched.change()
        assert watched.ended == [reference]
        assert watched.readings("Read") == 1
        found = [images.find(GATE, POD, reference) for _ in range(100)]
        assert isinstance(found[0], ImageRecord)
        assert set(found) == {found[0]}
        assert (found[0].revision, found[0].digest) == ("1_a", digest)
        (entry,) = images.status(GATE)["images"]
        assert (entry["references"], entry["revision"]) == ([reference], "1_a")
    reads = [line for line in registry.log.splitlines() if f"/v2/{repository}/manifests" in line and "GET" in line]
    assert len([line for line in reads if '"GET /v2' in line]) == 1


async def test_a_namespace_that_has_not_opted_in_has_nothing_read(registry: Registry, client: RegistryClient) -> None:
    """A tenant whose namespace is not guarded cannot make the controller connect anywhere."""
    reference = f"{registry.authority}/unasked/app:1"
    other = replace(GATE, namespace="other")
    async with running(client, opted_out="ns") as (images, watched):
        assert images.find(GATE, POD, reference) == UnknownImage(reference)
        images.find(other, Pod(), f"{registry.authority}/asked/app:1")
        await watched.change()
        assert images.find(GATE, POD, reference) == UnknownImage(reference)
    assert "/v2/asked/app" in registry.log
    assert "/v2/unasked/app" not in registry.log


async def test_what_the_status_knows_goes_on_while_the_registry_is_down() -> None:
    """A tag that was looked up long ago waits for one try; then what it led to counts. An unknown image does not go."""
    (port,) = free_ports(1)
    known = ImageRecord(f"localhost:{port}/app@sha256:{'1' * 64}", "1_a", references=(f"localhost:{port}/app:1",))
    gate = replace(GATE, images=dict.fromkeys((known.digest, *known.references), known))
    settings = RegistrySettings(addresses=LOCAL, plain_http=frozenset({f"localhost:{port}"}), limits=QUICK)
    clock = Clock()
    async with RegistryClient(settings) as client, running(client, clock=clock) as (images, watched):
        assert images.find(gate, POD, known.image) == known, "what a digest names never changes"
        tag, other = known.references[0], f"localhost:{port}/app:2"
        assert images.find(gate, POD, tag) == UnknownImage(tag)
        await watched.change()
        assert images.find(gate, POD, tag) == known
        images.find(gate, POD, other)
        await watched.change()
        assert watched.ended == [tag, other], "a reading that failed has ended, too: an annotation may count now"
        found = images.find(gate, POD, other)
        assert isinstance(found, UnknownImage)
        assert "does not answer" in found.message or "connect" in found.message
        assert images.unresolved(gate.key) == 2
        assert images.unresolved((gate.namespace, "other")) == 0
        assert watched.readings("Unreachable") == 2
        assert watched.readings("Read") == 0
        clock.ahead += FORGET_SECONDS
        assert images.unresolved(gate.key) == 0, "no pod has asked for them since"


async def test_an_image_that_cannot_be_read_is_tried_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else happens in the cluster: the gate is named again, so that its pods are judged and it is asked."""
    monkeypatch.setattr("webhook.controller.images.RETRY_SECONDS", 0.2)
    settings = RegistrySettings(addresses=LOCAL, plain_http=frozenset({"127.0.0.1:1"}), limits=QUICK)
    async with RegistryClient(settings) as client, running(client) as (images, watched), asyncio.timeout(20):
        images.find(GATE, POD, "127.0.0.1:1/app:1")
        await watched.change()  # it could not be read
        await watched.change()
        found = images.find(GATE, POD, "127.0.0.1:1/app:1")
        assert isinstance(found, UnknownImage)
        assert found.message


async def test_the_last_failure_is_forgotten_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pods are gone, and nothing asks for the image again: the gate is named once more, for its metric."""
    for name, seconds in (("RETRY_SECONDS", 0.2), ("FORGET_SECONDS", 0.5)):
        monkeypatch.setattr(f"webhook.controller.images.{name}", seconds)
    settings = RegistrySettings(addresses=LOCAL, plain_http=frozenset({"127.0.0.1:1"}), limits=QUICK)
    async with RegistryClient(settings) as client, running(client) as (images, watched), asyncio.timeout(20):
        images.find(GATE, POD, "127.0.0.1:1/app:1")
        await watched.change()
        assert images.unresolved(GATE.key) == 1
        while images.unresolved(GATE.key):
            await watched.change()


async def test_a_tag_that_leads_to_contradictory_labels(
    registry: Registry, client: RegistryClient, pusher: Pusher, repository: str
) -> None:
    """What it led to before counts no more; back at the former image, it does."""
    clock, reference = Clock(), f"{registry.authority}/{repository}:1"
    await pusher.image(RegistryImage({REVISION: "1_a"}), "1")
    async with running(client, clock=clock) as (images, watched):
        images.find(GATE, POD, reference)
        await watched.change()
        platforms = RegistryImage({REVISION: "1_a"}), RegistryImage({REVISION: "2_b"}, "arm64")
        await pusher.index(index(*platforms), "1", *platforms)
        clock.ahead += 61
        assert images.find(GATE, POD, reference) == UnknownImage(reference)
        await watched.change()
        found = images.find(GATE, POD, reference)
        assert isinstance(found, UnknownImage)
        assert found.contradictory
        assert "1_a" in found.message
        assert "2_b" in found.message
        await pusher.image(RegistryImage({REVISION: "1_a"}), "1")
        clock.ahead += 61
        images.find(GATE, POD, reference)
        await watched.change()
        assert isinstance(images.find(GATE, POD, reference), ImageRecord)


async def test_a_missing_pull_secret_is_told(registry: Registry, client: RegistryClient, repository: str) -> None:
    """An image that cannot be read is told with what is wrong with the pod's pull secrets, and what to do."""
    reference = f"{registry.authority}/{repository}:none"
    pod = msgspec.convert({"metadata": {"namespace": "ns"}, "spec": {"imagePullSecrets": [{"name": "login"}]}}, Pod)
    async with running(client) as (images, watched):
        images.find(GATE, pod, reference)
        await watched.change()
        found = images.find(GATE, pod, reference)
        assert isinstance(found, UnknownImage)
        assert found.message.startswith("pull secret login does not exist; ")
        assert "is not in its registry" in found.message
