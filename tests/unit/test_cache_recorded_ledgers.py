"""What admission knows without a database: the statuses, and whether a controller keeps them up to date."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from migrations.core.snapshot import Fault
from tests.object_feeds import Collection, Objects, a_gate, until
from webhook.api.lease import Lease, LeaseSpec
from webhook.api.objects import Metadata
from webhook.cache.gates import GateCache
from webhook.cache.leader import DEAD_AFTER_SECONDS, LeaderWatch
from webhook.cache.recorded_ledgers import RecordedLedgers
from webhook.kube.reflector import Feed

AT = ("ledgergate", "ledgergate-controller")
KEY = ("ns", "app")


@dataclass
class Leases:
    """A Lease that a test renews, and a clock that it turns."""

    feed: Collection = field(default_factory=Collection)
    now: float = 1000.0
    version: int = 0

    def lease(self, namespace: str, name: str) -> Feed[Lease]:
        """Return the feed of the Lease."""
        assert (namespace, name) == AT
        return self.feed

    def put(self, renewed: str, holder: str | None = "controller-1", acquired: str | None = None) -> None:
        """Write the Lease."""
        self.version += 1
        metadata = Metadata(namespace=AT[0], name=AT[1], uid="u", resource_version=str(self.version))
        self.feed.put(
            Lease(metadata=metadata, spec=LeaseSpec(holder_identity=holder, acquire_time=acquired, renew_time=renewed))
        )


@asynccontextmanager
async def following(leases: Leases) -> AsyncIterator[LeaderWatch]:
    watch = LeaderWatch(leases, AT, lambda: leases.now)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def alive(watch: LeaderWatch) -> bool:
    return watch.leads


async def seen(leases: Leases, watch: LeaderWatch) -> None:
    """Wait until the watch has delivered the newest Lease."""
    version = str(leases.version)
    await until(lambda: any(each.metadata.resource_version == version for each in watch._reflector.objects.values()))


async def test_a_leader_lives_while_its_renewals_are_seen() -> None:
    """The time in the Lease is by another clock: only that it changes counts, and when that was seen here."""
    leases = Leases()
    leases.put("2001-01-01T00:00:00Z")
    async with following(leases) as leads:
        await seen(leases, leads)
        leases.now += DEAD_AFTER_SECONDS - 1
        assert alive(leads)
        leases.put("1999-01-01T00:00:00Z")  # a clock that was set back: a renewal all the same
        await seen(leases, leads)
        leases.now += DEAD_AFTER_SECONDS - 1
        assert alive(leads)
        leases.now += 1
        assert not alive(leads)
        leases.put("2031-01-01T00:00:00Z")
        await seen(leases, leads)
        assert alive(leads)


async def test_a_lease_that_is_not_renewed_is_no_sign_of_life() -> None:
    """Neither the same Lease with a new label, nor one that its holder has given up, nor one that is gone."""
    leases = Leases()
    leases.put("t1")
    async with following(leases) as leads:
        await seen(leases, leads)
        leases.now += DEAD_AFTER_SECONDS - 1
        leases.put("t1")
        await seen(leases, leads)
        leases.put("t2", holder=None)
        await seen(leases, leads)
        leases.feed.remove(AT)
        await until(lambda: not leads._reflector.objects)
        leases.now += 1
        assert not alive(leads)


async def test_a_new_process_gives_a_leader_time_to_show_itself() -> None:
    """Before the first list, and where there is no Lease, what the statuses say counts for as long as a Lease would."""
    leases = Leases()
    watch = LeaderWatch(leases, AT, lambda: leases.now)
    assert alive(watch)
    leases.now += DEAD_AFTER_SECONDS
    assert not alive(watch)


async def test_after_a_time_without_a_leader_readings_have_to_be_new() -> None:
    """What one leader has read is not current until the next has read it; a quick change of leaders loses nothing."""
    before, after = (datetime(2026, 1, 26, 12, minute, tzinfo=UTC) for minute in (0, 30))
    leases = Leases()
    leases.put("t1", acquired="2026-01-26T11:00:00.000000Z")
    async with following(leases) as leader:
        await seen(leases, leader)
        leases.put("t2", "controller-2", acquired="2026-01-26T12:15:00.000000Z")
        await seen(leases, leader)
        assert leader.vouches_for(before)
        assert leader.vouches_for(None)
        leases.now += DEAD_AFTER_SECONDS
        assert not leader.vouches_for(after)
        leases.put("t3", "controller-2", acquired="2026-01-26T12:15:00.000000Z")  # it was only not seen
        await seen(leases, leader)
        assert leader.vouches_for(before)
        leases.now += DEAD_AFTER_SECONDS
        leases.put("t4", "controller-3", acquired="2026-01-26T12:30:00.700000Z")
        await seen(leases, leader)
        assert not leader.vouches_for(before)
        assert not leader.vouches_for(None)
        assert leader.vouches_for(after), "a status has whole seconds"


@dataclass
class Vouching:
    """A leader that a test ends."""

    leads: bool = True
    valid: bool = True

    def vouches_for(self, read_at: datetime | None) -> bool:
        """Return what the test says."""
        del read_at
        return self.leads and self.valid


LIVE = {"state": "Live", "applied": 1, "history": [{"revision": "a", "observedAt": "2026-01-01T00:00:00Z"}]}


async def test_a_gate_is_judged_by_its_newest_status() -> None:
    """Each status counts as soon as the watch has brought it; it is rebuilt once, and forgotten with its gate."""
    objects, leader = Objects(), Vouching()
    objects.gates.put(a_gate())
    gates = GateCache(objects)
    ledgers = RecordedLedgers(gates, leader)
    task = asyncio.create_task(gates.run())
    try:
        await asyncio.wait_for(gates.wait_synced(), 10)
        gate = gates.gate(KEY)
        assert gate is not None
        for leader.valid in (True, False):
            assert ledgers.snapshot(gate).fault is Fault.PENDING, "the leader will say"
        leader.valid = True
        objects.gates.put(a_gate(status=LIVE))
        await until(lambda: ledgers.snapshot(gate).fault is None)
        first = ledgers.snapshot(gate)
        assert first.ledger is not None
        assert first.ledger.applied == ("a",)
        assert ledgers.snapshot(gate) is first
        leader.valid = False
        assert ledgers.snapshot(gate).fault is Fault.UNREACHABLE
        assert ledgers.snapshot(gate).ledger is first.ledger
        leader.leads, leader.valid = False, True
        assert ledgers.snapshot(gate).fault is Fault.UNREACHABLE
        leader.leads = True
        objects.gates.remove(KEY)
        await until(lambda: gates.gate(KEY) is None)
        assert ledgers._rebuilt == {}
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
