"""Held pods are released once they may start: their image is known, or no LedgerGate has come."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import LedgerSnapshot
from tests.object_feeds import Collection, Objects, a_gate, until
from webhook.api.namespace import OptIn
from webhook.api.objects import Metadata, Pod
from webhook.cache.gates import GateCache
from webhook.controller.release import ReleaseReconciler
from webhook.core.gate import Gate
from webhook.core.images import ImageRecord, UnknownImage
from webhook.core.patches import Patch
from webhook.kube.reflector import Feed
from webhook.telemetry import Telemetry

if TYPE_CHECKING:
    from webhook.controller.events import Event

NOW = datetime(2026, 1, 26, tzinfo=UTC)
AT_A = LedgerSnapshot(Ledger.of([Record("a", State.APPLIED)]), NOW)
IMAGES, PODS = 20, 15


def reference(number: int) -> str:
    return f"registry.example/shop/app{number}:1"


def held_pod(image: int, number: int) -> Pod:
    name = f"app{image}-{number}"
    whole = {
        "metadata": {"namespace": "ns", "name": name, "uid": name, "creationTimestamp": "2026-01-26T00:00:00Z"},
        "spec": {
            "schedulingGates": [{"name": "ledgergate.dev/ledger"}],
            "containers": [{"name": "main", "image": reference(image)}],
        },
    }
    return msgspec.convert(whole, Pod)


class Cluster(Objects):
    """Held pods; the names of those that were released are kept, and the Events."""

    def __init__(self, *pods: Pod, gated: bool) -> None:
        super().__init__()
        if gated:
            self.gates = Collection(a_gate(expect={"image": {}}))
        self.pods = Collection(*pods)
        self.released: set[str] = set()
        self.events: list[Event] = []

    def unbound_pods(self) -> Feed[Pod]:
        """Return the feed of the pods."""
        return self.pods

    async def patch_pod(self, pod: Metadata, patch: Patch) -> None:
        """Keep its name."""
        assert patch
        self.released.add(pod.name)


class Images:
    """What images are known to say; counts how often it was asked."""

    def __init__(self) -> None:
        self.known: dict[str, ImageRecord] = {}
        self.asked = 0

    def find(self, gate: Gate, pod: Pod, reference: str) -> ImageRecord | UnknownImage:
        """Return what is known."""
        del gate, pod
        self.asked += 1
        return self.known.get(reference) or UnknownImage(reference)


class Ledgers:
    """A ledger that has every revision that an image needs."""

    def __init__(self, gates: GateCache) -> None:
        self._gates = gates

    def gates_with_snapshots(self, namespace: str, labels: Mapping[str, str]) -> list[tuple[Gate, LedgerSnapshot]]:
        """Return the gate with its ledger."""
        return [(gate, AT_A) for gate in self._gates.selecting(namespace, labels)]

    def pod_created(self, *_: object) -> None:
        """Do nothing."""


class OptedIn:
    """Every namespace is guarded, and has pods wait that declare nothing."""

    def label(self, _: str) -> OptIn:
        """Return that it is."""
        return OptIn.ENABLED

    def admission(self, *_: object) -> OptIn:
        """Return that it is."""
        return OptIn.ENABLED

    def waits(self, *_: object) -> bool:
        """Return that it does."""
        return True


@asynccontextmanager
async def releasing(cluster: Cluster, images: Images) -> AsyncIterator[ReleaseReconciler]:
    """A reconciler that knows every pod and gate."""
    gates = GateCache(cluster)
    release = ReleaseReconciler(
        cast("Any", cluster),
        gates,
        cast("Any", Ledgers(gates)),
        cast("Any", OptedIn()),
        Telemetry(),
        images=images,
        on_count=lambda _: None,
        on_migrator=lambda _: None,
        view=lambda gate: gate,
        emit=cluster.events.append,
        now=lambda: NOW,
        monotonic=time.monotonic,
    )
    tasks = [asyncio.create_task(part.run()) for part in (gates, release)]
    try:
        await until(lambda: gates.synced and len(release.held_in("ns")) == len(cluster.pods.items))
        yield release
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_pods_of_an_image_that_was_read_do_not_wait_for_the_others_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 pods of 20 images, which have just been judged and must not be again for hours: those of one image go."""
    monkeypatch.setattr("webhook.controller.work_queue.PAUSE_FACTOR", 1_000_000)
    pods = (held_pod(image, number) for image in range(IMAGES) for number in range(PODS))
    cluster, images = Cluster(*pods, gated=True), Images()
    async with releasing(cluster, images) as release:
        before = images.asked
        release.reconcile_namespace("ns")
        await until(lambda: images.asked >= before + IMAGES * PODS)
        for number in (7, 3):
            digest = f"sha256:{str(number) * 64}"
            images.known[reference(number)] = ImageRecord(f"registry.example/shop/app{number}@{digest}", "a")
            release.image_read("ns", reference(number))
        await until(lambda: len(cluster.released) >= 2 * PODS)
        assert cluster.released == {f"app{number}-{pod}" for number in (3, 7) for pod in range(PODS)}
        release.image_read("other", reference(1))
        release.image_read("ns", "registry.example/shop/unheard-of:1")


async def test_a_pod_that_no_gate_selects_starts_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its grace ends without any change in the cluster. Its Events say why it waited, and why it starts."""
    monkeypatch.setattr("webhook.controller.late_gates.LATE_GATE_SECONDS", 0.3)
    cluster = Cluster(held_pod(0, 0), gated=False)
    began = time.monotonic()
    async with releasing(cluster, Images()):
        await until(lambda: cluster.released)
        assert time.monotonic() - began >= 0.3
        await until(lambda: len(cluster.events) == 2)
    waiting, starting = (each.note for each in cluster.events)
    assert "label ledgergate.dev/undeclared=wait of its namespace has it wait for one" in waiting
    assert starting == "no LedgerGate has come to select it: the pod starts"


async def test_a_pod_that_needs_no_ledger_starts_at_once() -> None:
    """Where the API server's own policy has held it, since no webhook answered."""
    pod = held_pod(0, 0)
    metadata = msgspec.structs.replace(pod.metadata, annotations={"ledgergate.dev/undeclared": "start"})
    cluster = Cluster(msgspec.structs.replace(pod, metadata=metadata), gated=False)
    async with releasing(cluster, Images()):
        await until(lambda: cluster.released)
    assert cluster.events == []
