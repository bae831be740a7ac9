"""One term as the leader: the reconcilers, over one view of gates, ledgers and namespaces."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from webhook.cache.gates import GATES_PER_NAMESPACE, GateApi, GateCache
from webhook.cache.namespaces import NamespaceApi, NamespaceCache
from webhook.controller.contract_events import ContractEvents
from webhook.controller.contracts import ContractApi, ContractReconciler
from webhook.controller.events import EventApi, EventRecorder
from webhook.controller.images import RETRY_SECONDS, GateImages
from webhook.controller.owner_wakeup import OwnerApi, OwnerWakeup
from webhook.controller.pull_credentials import PullCredentialsReader
from webhook.controller.readiness import ReadinessApi, ReadinessReconciler
from webhook.controller.release import PodApi, ReleaseReconciler
from webhook.controller.status import StatusApi, StatusReconciler
from webhook.controller.superseded_pods import SupersededApi, SupersededReconciler
from webhook.core.gate import Gate
from webhook.core.images import REFRESH
from webhook.kube.reflector import Key
from webhook.ledgers.registry import LedgerRegistry
from webhook.ledgers.secrets import SecretApi
from webhook.ledgers.turns import SESSIONS_PER_SERVER
from webhook.registries.client import RegistryClient
from webhook.registries.memory import ImageMemory
from webhook.telemetry import Telemetry

REFUSED_RETRY_SECONDS = 15.0
"""Until a registry is asked again for an image that it refused: it may be pushed a moment later than its pods."""


class ControllerApi(
    GateApi,
    SecretApi,
    NamespaceApi,
    PodApi,
    ContractApi,
    OwnerApi,
    SupersededApi,
    ReadinessApi,
    StatusApi,
    EventApi,
    Protocol,
):
    """All that the controller reads and writes in the cluster."""


class Controller:
    """The leader's work: passes each change to the reconcilers that it concerns.

    Args:
        identity: this replica, in Events and in the databases' lists of sessions.
        now: the clock, aware.
        monotonic: seconds of the monotonic clock, for durations.
        gates_per_namespace: how many LedgerGates of a namespace count.
        sessions_per_server: how many sessions a database server has at a time.
        registries: reads images.
        registry_config: Docker's ``config.json`` with logins for every namespace; None where there is none.
        allowed_hosts: the database servers that may be connected to; empty for any.
    """

    def __init__(
        self,
        api: ControllerApi,
        identity: str,
        telemetry: Telemetry,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        gates_per_namespace: int = GATES_PER_NAMESPACE,
        *,
        sessions_per_server: int = SESSIONS_PER_SERVER,
        registries: RegistryClient,
        registry_config: Path | None = None,
        allowed_hosts: Sequence[str] = (),
    ) -> None:
        self._gates = gates = GateCache(api, gates_per_namespace)
        self._ledgers = ledgers = LedgerRegistry(
            gates,
            api,
            identity,
            self._gate_changed,
            telemetry.read_duration.observe,
            sessions_per_server=sessions_per_server,
            allowed_hosts=allowed_hosts,
        )
        self._namespaces = namespaces = NamespaceCache(api, self._reconcile_namespace, monotonic)
        self._recorder = EventRecorder(api, identity, now, busy=lambda: self._release.at_capacity)
        emit = self._recorder.emit
        # A second less than a record counts, so that one that no longer counts is always looked up again.
        memory = ImageMemory(
            registries,
            monotonic,
            refresh=REFRESH.total_seconds() - 1,
            retry=RETRY_SECONDS,
            refused=REFUSED_RETRY_SECONDS,
        )
        self._images = images = GateImages(
            memory,
            PullCredentialsReader(api, registry_config),
            telemetry,
            admission=namespaces.label,
            on_read=self._image_read,
            on_change=self._gate_changed,
            now=now,
            monotonic=monotonic,
        )
        # Callbacks that name parts which are made further down are methods: they look the part up when they are called.
        self._release = ReleaseReconciler(
            api,
            gates,
            ledgers,
            namespaces,
            telemetry,
            images=images,
            on_count=self._count_changed,
            on_migrator=self._migrator_held,
            view=self._gate_view,
            emit=emit,
            now=now,
            monotonic=monotonic,
        )
        self._wakeup = OwnerWakeup(api, gates, ledgers, telemetry, images=images, admission=namespaces.label, now=now)
        self._contracts = ContractReconciler(
            api,
            gates,
            ledgers,
            telemetry,
            ContractEvents(emit),
            images=images,
            held=self._release.held_in,
            releasing=self._release.is_releasing,
            rejudge=self._release.reconcile_namespace,
            on_taken_back=self._wakeup.enqueue,
            now=now,
            monotonic=monotonic,
        )
        self._superseded = SupersededReconciler(api, gates, emit, held=self._release.held_in)
        self._readiness = ReadinessReconciler(
            api, gates, ledgers, namespaces, images=images, now=now, monotonic=monotonic
        )
        self._status = StatusReconciler(
            api,
            gates,
            ledgers,
            telemetry,
            images=images,
            count=self._release.count,
            awaited=lambda gate: self._wakeup.awaits(gate) or self._contracts.is_active(gate),
            on_written=self._status_written,
            emit=emit,
            now=now,
        )

    @property
    def unready(self) -> str:
        """Which watches are not up to date, and why: not listed yet, or failing; empty where all are up to date."""
        problems = {
            "LedgerGates": self._gates.watch_problem,
            "pods": self._release.watch_problem,
            "namespaces": self._namespaces.watch_problem,
        }
        return "; ".join(f"{what}: {problem}" for what, problem in problems.items() if problem)

    async def run(self) -> None:
        """Work until cancelled."""
        parts = (
            self._ledgers,
            self._gates,
            self._namespaces,
            self._images,
            self._release,
            self._wakeup,
            self._contracts,
            self._superseded,
            self._readiness,
            self._status,
            self._recorder,
        )
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part.run())

    def _gate_changed(self, gate: Key) -> None:
        # Releases first: a pod waits for them, and at once. The others only enqueue, or write in the background.
        self._release.reconcile_namespace(gate[0])
        self._readiness.reconcile_namespace(gate[0])
        self._contracts.changed(gate)
        self._status.enqueue(gate, changed=True)

    def _image_read(self, namespace: str, reference: str) -> None:
        self._release.image_read(namespace, reference)

    def _migrator_held(self, gate: Key) -> None:
        self._contracts.migrator_held(gate)

    def _gate_view(self, gate: Gate) -> Gate:
        return self._contracts.view(gate)

    def _status_written(self, gate: Key) -> None:
        # Only now: before it sees the new status, admission would refuse the pods of a woken owner again.
        self._wakeup.enqueue(gate[0])

    def _reconcile_namespace(self, namespace: str) -> None:
        self._release.reconcile_namespace(namespace)
        self._readiness.reconcile_namespace(namespace)
        self._wakeup.enqueue(namespace)

    def _count_changed(self, gate: Gate) -> None:
        self._status.enqueue(gate.key)
        # Pods may wait for the gate: poll its ledger often. The status reconciler ends that when it counts none.
        self._ledgers.set_urgent(gate.key, urgent=True)
