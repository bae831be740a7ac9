"""What the controller is given, fuzzed: answers of reader processes, and LedgerGates with their statuses.

`LEDGERGATE_FUZZ=100000` reads that many of each kind; `make fuzz` does.
"""

import asyncio
import json
import logging
import os
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.snapshot import Fault, LedgerSnapshot
from migrations.core.versioning import Versioning
from migrations.dialects.catalogue import DIALECTS
from migrations.postgres.address import Address
from migrations.reader import wire
from testbed.admission.load import resident_mb
from testbed.admission.mutations import garbled, mutate, mutated
from tests.object_feeds import a_gate
from webhook.api.objects import LedgerGate, Pod
from webhook.core.gate import parse_gate
from webhook.core.history import recall_snapshot
from webhook.core.pod_verdict import decide_pod
from webhook.core.status import GateObservation, PreviousStatus, build_status
from webhook.kube.collection import _decode_change
from webhook.kube.errors import ClusterError
from webhook.kube.reflector import Key, Unreadable
from webhook.ledgers.bindings import LedgerBinding
from webhook.ledgers.database import Readers, TenantDatabase
from webhook.ledgers.turns import Turns

log = logging.getLogger(__name__)

COUNT = min(int(os.environ.get("LEDGERGATE_FUZZ", "3000")), 100_000)
NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
FLAT_MB = 16.0
STATUS_BYTES = 1_000_000
"""Below what etcd takes (1.5 MB), whatever a ledger holds."""
NAMES = tuple(f"2026010{day}000000_m{day}" for day in range(1, 8))
POD = msgspec.convert(
    {
        "metadata": {"namespace": "ns", "name": "p", "annotations": {"ledgergate.dev/revision": NAMES[2]}},
        "spec": {"containers": [{"name": "main", "image": "app"}]},
    },
    Pod,
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log nothing of the product's: pytest keeps each record until the test's end, which is no leak of the product."""
    product = logging.getLogger("ledgergate")
    before, product.disabled = product.disabled, True
    yield
    product.disabled = before


def judged(gate: Any, snapshot: LedgerSnapshot) -> None:
    """Do with a gate what the controller does: judge a pod, and build the status."""
    message = decide_pod(POD, [(gate, snapshot)], NOW).final.message
    assert len(message) < 2000
    assert message.isprintable(), message
    status = build_status(GateObservation(snapshot, held=1), gate, PreviousStatus.from_gate(gate), NOW)
    assert len(json.dumps(status).encode()) < STATUS_BYTES


def grows(number: int, first: list[float]) -> None:
    """Note the memory after the first tenth, and assert at the end that it is about the same."""
    if number == COUNT // 10:
        first.append(resident_mb(os.getpid()))
    if number == COUNT - 1:
        last = resident_mb(os.getpid())
        log.warning("%d read; %.1f MB after %d, %.1f MB at the end", COUNT, first[0], COUNT // 10, last)
        assert last < first[0] + FLAT_MB


def gate_seeds() -> tuple[bytes, ...]:
    """Return watch events of LedgerGates whose statuses the controller has written."""
    seeds = []
    for dialect, policy in (("ledgergate", {}), ("alembic", {"mode": "Audit"}), ("knex", {"onBehind": "Deny"})):
        spec: dict[str, Any] = {"ledger": {"dialect": dialect, "schema": "s", "table": "t"}, "maxHold": "5m", **policy}
        if dialect == "knex":
            spec["bypass"] = {"until": "2099-01-01T00:00:00Z", "reason": "x"}
        resource = a_gate(**spec)
        gate = parse_gate(resource)
        ledger = Ledger.of([*(Record(name, State.APPLIED, compatible_from=NAMES[0]) for name in NAMES[:4])])
        observation = GateObservation(LedgerSnapshot(ledger, NOW), held=2, ledger_fingerprint="f" * 16)
        status = build_status(observation, gate, PreviousStatus.from_gate(gate), NOW)
        found = json.loads(msgspec.json.encode(resource)) | {"status": status}
        seeds.append(json.dumps({"type": "MODIFIED", "object": found}).encode())
    return tuple(seeds)


@pytest.mark.timeout(900 + COUNT // 100)
def test_no_ledger_gate_stops_the_guard() -> None:
    """Whatever a LedgerGate and its status hold: it is decoded or refused, judged, and its next status is small."""
    chance = random.Random(20260126)  # noqa: S311 - a seed, no secret
    seeds, codes, first = gate_seeds(), Counter[str](), list[float]()
    for number in range(COUNT):
        event = mutated(chance.choice(seeds), chance)
        try:
            change = _decode_change(event, LedgerGate)
        except ClusterError:
            codes["no event"] += 1
        else:
            if change.object is None or isinstance(change.object, Unreadable):
                codes["unreadable"] += 1
            else:
                codes["read"] += 1
                gate = parse_gate(change.object)
                judged(gate, recall_snapshot(gate))
        grows(number, first)
    log.warning("%s", dict(codes))
    assert codes["read"] > COUNT // 4
    assert codes["unreadable"]


def answers() -> tuple[wire.Answer, ...]:
    """Return answers of all kinds."""
    ledger = Ledger.of([*(Record(name, State.APPLIED) for name in NAMES[:5]), Record(NAMES[5], State.RUNNING)])
    entries = wire.to_entries(ledger)
    return (
        wire.Reading(1, 0, 0.1, entries, History.NAMES, Versioning.NAME, standby=False),
        wire.Reading(1, 1, 0.1, entries[:1], History.HEADS, Versioning.NAME, standby=True),
        wire.Reading(1, 0, 0.1, None, History.NAMES, Versioning.NAME, standby=False, missing_table="s.t"),
        wire.Migrating(1, 0, wire.Run("pod-1", NAMES[5], NOW.timestamp())),
        wire.FaultFound(1, None, Fault.UNREACHABLE, "", "no route", crowded=True),
        wire.FaultFound(1, 1, Fault.UNREACHABLE, "the table has no column name", "x", hostile=True),
        wire.Left(1),
        wire.Pong(7),
    )


@pytest.mark.timeout(900 + COUNT // 100)
async def test_no_answer_of_a_worker_stops_the_guard() -> None:
    """Whatever the process says that read a tenant's database: it is refused, or is a reading, a run or a fault."""
    chance = random.Random(20260127)  # noqa: S311 - a seed, no secret
    codes, first, changed = Counter[str](), list[float](), list[Key]()
    readers = Readers(
        cast("Any", None),
        cast("Any", None),
        Turns(1),
        Turns(1),
        "ledgergate test",
        changed.append,
        lambda _: None,
        asyncio.Semaphore(1),
    )
    database = TenantDatabase(("ns", "pg"), readers)
    gates = [parse_gate(a_gate("one")), parse_gate(a_gate("two", ledger={"dialect": "alembic"}))]
    bindings = [LedgerBinding(gate) for gate in gates]
    for binding in bindings:
        binding.rebind(Address.from_url("postgresql://u:p@h/app"), None)
    database._ledgers = [[binding] for binding in bindings]
    assert {gate.dialect for gate in gates} <= set(DIALECTS)
    seeds = [wire.encode_answer(each)[wire.HEADER_BYTES :] for each in answers()]
    for number in range(COUNT):
        tree = msgspec.msgpack.decode(chance.choice(seeds))
        for _ in range(chance.randint(0, 2)):
            mutate(tree, chance)
        frame = msgspec.msgpack.encode(tree)
        if chance.random() < 0.2:
            frame = garbled(frame, chance)
        try:
            answer = wire.decode_answer(frame)
        except msgspec.DecodeError:
            codes["refused"] += 1
        else:
            codes[type(answer).__name__] += 1
            database._answered(answer)
            for gate, binding in zip(gates, bindings, strict=True):
                judged(gate, binding.snapshot(gate))
        changed.clear()
        grows(number, first)
    log.warning("%s", dict(codes))
    assert {"Reading", "Migrating", "FaultFound", "refused"} <= set(codes)
