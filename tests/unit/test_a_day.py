"""24 simulated hours, on clocks passed as arguments: the state that is kept stays correct and bounded."""

import hashlib
import random
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec

from certs.authority_keeper import AuthorityKeeper
from certs.dynamic_source import LEAF_LIFE, DynamicCertificate
from certs.pki import read_certificate
from migrations.core.ledger import Ledger, Record, State
from migrations.core.revision import declare
from migrations.core.snapshot import LedgerSnapshot
from tests.authority_store import DAY, START, Clock, Publisher, Replica, Store, held
from tests.object_feeds import a_gate
from webhook.api.lease import Lease, LeaseSpec
from webhook.api.objects import LedgerGate, Metadata, Pod
from webhook.cache.leader import DEAD_AFTER_SECONDS, LeaderWatch
from webhook.core.gate import Gate, parse_gate
from webhook.core.history import recall_snapshot
from webhook.core.pod_verdict import decide_pod
from webhook.core.status import HISTORY, GateObservation, PreviousStatus, build_status
from webhook.core.verdict import Reason
from webhook.ledgers.schedule import HOSTILE_RETRY, LOOK_SECONDS, Schedule
from webhook.registries.memory import ImageMemory
from webhook.registries.result import ImageLabels

MINUTE = timedelta(minutes=1)
SECONDS = 24 * 3600


async def test_certificates() -> None:
    """At each five-minute check every replica has a valid, trusted certificate; each renews once, and the CA stays."""
    store, publisher, clock = Store(), Publisher(), Clock()
    issued: list[datetime] = []
    keeper = AuthorityKeeper(Replica(store), publisher, clock=clock)
    replicas = [
        DynamicCertificate(
            Replica(store), ["localhost"], clock=clock, on_issued=lambda _, expiry: issued.append(expiry)
        )
        for _ in range(3)
    ]
    await keeper.ensure(clock())
    while clock.now < START + DAY:
        if clock.now.minute % 10 == 0:
            assert await keeper.ensure(clock()) == held(store).bundle
        for replica in replicas:
            await replica.refresh(clock())
            assert replica.ready
            assert replica._pair is not None
            leaf = read_certificate(replica._pair.certificate)
            assert leaf.not_valid_before_utc <= clock.now < leaf.not_valid_after_utc - LEAF_LIFE / 4
            leaf.verify_directly_issued_by(read_certificate(held(store).pair.certificate))
        clock.now += 5 * MINUTE
    assert len(issued) == len(replicas) * 2
    assert store.writes == 1
    assert set(publisher.bundles) == {held(store).bundle}


def test_leases() -> None:
    """While renewals are seen there is a leader; after 15 s without one there is none, and old readings do not count.

    The times in the renewals jump by hours, as they do when a node's clock is corrected.
    """
    now = [1000.0]
    watch = LeaderWatch(cast("Any", _NoLeases()), ("ns", "lease"), lambda: now[0])
    chance = random.Random(16)  # noqa: S311 - a seed, no secret
    wall, leader, acquired, before = START, 0, START, None
    gaps = 0
    for second in range(0, SECONDS, 5):
        now[0] += 5
        wall += timedelta(seconds=5)
        if second % 7200 == 7195:  # the leader dies, and no other one comes for 20 s
            for silence in range(1, 21):
                now[0] += 1
                wall += timedelta(seconds=1)
                assert watch.leads is (silence + 5 < DEAD_AFTER_SECONDS)
                assert watch.vouches_for(wall) is watch.leads
            leader, acquired, gaps = leader + 1, wall.replace(microsecond=0), gaps + 1
        skew = timedelta(hours=chance.choice((-3, 0, 3)))
        renewed = Lease(
            metadata=Metadata(name="lease", namespace="ns"),
            spec=LeaseSpec(
                holder_identity=f"controller-{leader}",
                acquire_time=acquired.isoformat(),
                renew_time=(wall + skew).isoformat(),
            ),
        )
        watch._changed(before, renewed)
        before = renewed
        assert watch.leads
        assert watch.vouches_for(acquired)
        assert watch.vouches_for(acquired - MINUTE) is (gaps == 0)
    assert gaps == SECONDS // 7200


class _NoLeases:
    """No feed: the test hands over what the watch would bring."""

    def lease(self, namespace: str, name: str) -> None:
        """Return none."""
        del namespace, name


class _Registry:
    """A registry whose tags never move; counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def read(self, reference: str, *_: object) -> ImageLabels:
        """Return an image that needs no migration."""
        self.asked += 1
        return ImageLabels(f"{reference.partition(':')[0]}@{self._digest(reference)}", self._digest(reference))

    async def read_digest(self, reference: str, *_: object) -> str:
        """Return what the tag leads to."""
        self.asked += 1
        return self._digest(reference)

    @staticmethod
    def _digest(reference: str) -> str:
        return f"sha256:{hashlib.sha256(reference.encode()).hexdigest()}"


async def test_images() -> None:
    """An image in use costs one request a minute, one out of use is forgotten, and no more are kept than allowed."""
    registry, now = _Registry(), [0.0]
    memory = ImageMemory(cast("Any", registry), lambda: now[0], capacity=200)
    deployed = 0
    while now[0] < SECONDS:
        deployed += 1  # a new image every ten minutes; the last five are in use, and asked for every 15 s
        for _ in range(40):
            for number in range(max(1, deployed - 4), deployed + 1):
                found = await memory.find("ns", f"registry.test/app:v{number}")
                assert isinstance(found, ImageLabels)
            now[0] += 15.0
        assert len(memory._known) <= 200
        assert not memory._readings
    assert registry.asked <= 5 * SECONDS / 60 + 2 * deployed
    assert memory.recall("ns", "registry.test/app:v1") is None
    assert memory.recall("ns", f"registry.test/app:v{deployed}") is not None


def test_history() -> None:
    """A migration every ten minutes: the status stays small, its times stay true, and every pod's verdict is right."""
    now = datetime(2026, 1, 26, tzinfo=UTC)
    names: list[str] = []
    seen: dict[str, str] = {}
    resource = a_gate()
    for number in range(24 * 6):
        now += timedelta(minutes=10)
        names.append(f"{now:%Y%m%d%H%M%S}_m{number}")
        ledger = Ledger.of([Record(name, State.APPLIED) for name in names])
        gate = parse_gate(resource)
        observation = GateObservation(LedgerSnapshot(ledger, now), ledger_fingerprint="f")
        status = build_status(observation, gate, PreviousStatus.from_gate(gate), now)
        for entry in status["history"]:
            assert entry["observedAt"] == seen.setdefault(entry["revision"], f"{now:%Y-%m-%dT%H:%M:%SZ}")
        assert len(status["history"]) == min(len(names), HISTORY)
        kept = {each: value for each, value in status.items() if value is not None}
        resource = msgspec.convert(msgspec.to_builtins(a_gate()) | {"status": kept}, LedgerGate)
        gate = parse_gate(resource)
        assert _reason(gate, names, now) is Reason.MATCHES
        assert _reason(gate, names[:-1] or names, now) in {Reason.AHEAD, Reason.MATCHES}
        assert _reason(gate, [*names, "20270101000000_next"], now) is Reason.BEHIND
        assert _reason(gate, names[-1:], now) is Reason.MATCHES
    assert len(msgspec.json.encode(resource)) < 20_000


def _reason(gate: Gate, known: list[str], now: datetime) -> Reason:
    """Return the verdict on a pod whose image knows these revisions, by the gate's status alone."""
    expected = str(declare(known)) if len(known) > 1 else known[0]
    pod = msgspec.convert({"metadata": {"annotations": {"ledgergate.dev/revision": expected}}, "spec": {}}, Pod)
    return decide_pod(pod, [(gate, recall_snapshot(gate))], now).final.reason


def test_looks() -> None:
    """At rest a ledger is looked at once a minute, and a database that is down or hostile is not asked more often."""
    chance = random.Random(16)  # noqa: S311 - a seed, no secret
    for kind, most, least in (
        ("rest", SECONDS / LOOK_SECONDS * 1.05, SECONDS / LOOK_SECONDS * 0.95),
        ("down", SECONDS / LOOK_SECONDS * 1.7, SECONDS / LOOK_SECONDS * 0.6),
        ("hostile", SECONDS / HOSTILE_RETRY * 2.0, SECONDS / HOSTILE_RETRY * 0.6),
    ):
        schedule, now, looks = Schedule(chance.random), 0.0, 0
        while now < SECONDS:
            looks += 1
            if kind == "rest":
                schedule.answered()
                schedule.ended(now)
            else:
                schedule.failed(now, hostile=kind == "hostile")
            assert schedule.due > now
            now = schedule.due
        assert least < looks < most, (kind, looks)
