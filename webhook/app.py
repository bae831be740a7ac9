"""The two long-running roles, put together: the webhook and the controller. Each runs until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from certs.authority_keeper import AuthorityKeeper
from certs.dynamic_source import DynamicCertificate
from certs.file_source import FileCertificate
from certs.pki import CertificateError
from certs.serving import ServingCertificate
from webhook.admission.handlers import Admission
from webhook.admission.server import AdmissionServer, drain, probes, serving
from webhook.cache.gates import GateCache
from webhook.cache.leader import LeaderWatch
from webhook.cache.recorded_images import RecordedImages
from webhook.cache.recorded_ledgers import RecordedLedgers
from webhook.certificates import CaSecretStore, WebhookConfigurations
from webhook.kube.client import KubeClient
from webhook.kube.kubeconfig import connect
from webhook.kube.leader_election import LeaderElector
from webhook.registries.settings import RegistrySettings
from webhook.settings import CA_SECRET, LEASE, ControllerSettings, WebhookSettings
from webhook.telemetry import Telemetry, log_event


async def run_webhook(settings: WebhookSettings) -> None:
    """Serve admission until SIGTERM or SIGINT, then drain.

    Raises:
        webhook.kube.kubeconfig.KubeconfigError: no API server is configured.
        OSError: an address to listen on is in use.
    """
    stop, telemetry = _stop_signal(), Telemetry()
    async with await connect(settings.kubeconfig, "ledgergate-webhook") as cluster:
        gates = GateCache(cluster, settings.gates_per_namespace)
        leader = LeaderWatch(cluster, (settings.namespace, LEASE), time.monotonic)
        ledgers = RecordedLedgers(gates, leader)
        certificate = _certificate_source(settings, cluster, telemetry)
        server = AdmissionServer(Admission(gates, ledgers, _now, RecordedImages(leader, _now)), gates, telemetry)
        readiness = _Readiness(server, certificate, gates)
        async with (
            serving(
                (server.application, settings.bind, certificate.context),
                (probes(lambda: True, readiness, telemetry), settings.metrics_bind, None),
            ),
            asyncio.TaskGroup() as group,
        ):
            tasks = [group.create_task(part.run()) for part in (gates, leader, certificate)]
            log_event("webhook.started", bind=f"{settings.bind.host}:{settings.bind.port}", identity=settings.identity)
            await stop.wait()
            await drain(server, settings.drain.total_seconds())
            _cancel(tasks)


async def run_controller(settings: ControllerSettings, registries: RegistrySettings) -> None:
    """Release pods and keep statuses and certificates, while this replica leads, until SIGTERM or SIGINT.

    Args:
        registries: which registries are asked what images need, and how.

    Raises:
        webhook.kube.kubeconfig.KubeconfigError: no API server is configured.
        OSError: the address to listen on is in use.
    """
    # Here, because the webhook, which is the same program, must not load a database driver.
    from webhook.controller.controller import Controller  # noqa: PLC0415
    from webhook.registries.client import RegistryClient  # noqa: PLC0415 - nor a client of registries

    stop, telemetry = _stop_signal(), Telemetry()
    async with (
        await connect(settings.kubeconfig, "ledgergate-controller") as cluster,
        RegistryClient(registries) as registry_client,
    ):
        elector = LeaderElector(cluster, (settings.namespace, LEASE), settings.identity, settings.lease_duration)
        telemetry.leader.set_function(lambda: float(elector.is_leader))

        leading: list[Controller] = []

        async def term() -> None:
            # A new controller each term: what an earlier one knew may have been changed by another leader since.
            controller = Controller(
                cluster,
                settings.identity,
                telemetry,
                _now,
                time.monotonic,
                settings.gates_per_namespace,
                sessions_per_server=settings.sessions_per_server,
                registries=registry_client,
                registry_config=settings.registry_config,
            )
            leading.append(controller)
            try:
                async with asyncio.TaskGroup() as parts:
                    if settings.own_certificates:
                        parts.create_task(_authority_keeper(settings, cluster, telemetry).run())
                    parts.create_task(controller.run())
            finally:
                leading.remove(controller)
                telemetry.clear_leader_gauges()

        def unready() -> str:
            return elector.problem or next((each.unready for each in leading), "")

        async with (
            serving((probes(lambda: True, unready, telemetry), settings.metrics_bind, None)),
            asyncio.TaskGroup() as group,
        ):
            tasks = [group.create_task(elector.run(term))]
            log_event("controller.started", identity=settings.identity)
            await stop.wait()
            _cancel(tasks)


def _certificate_source(settings: WebhookSettings, cluster: KubeClient, telemetry: Telemetry) -> ServingCertificate:
    on_issued = partial(_report_issued, telemetry, "serving")
    if settings.tls_cert_file is not None and settings.tls_key_file is not None:
        return FileCertificate(
            settings.tls_cert_file, settings.tls_key_file, clock=_now, on_issued=on_issued, on_failure=_log_failure
        )
    store = CaSecretStore(cluster, settings.namespace, CA_SECRET)
    return DynamicCertificate(store, settings.names, clock=_now, on_issued=on_issued, on_failure=_log_failure)


def _authority_keeper(settings: ControllerSettings, cluster: KubeClient, telemetry: Telemetry) -> AuthorityKeeper:
    return AuthorityKeeper(
        CaSecretStore(cluster, settings.namespace, CA_SECRET),
        WebhookConfigurations(cluster, settings.webhook_url),
        clock=_now,
        on_checked=partial(_set_expiry, telemetry, "authority"),
        on_issued=partial(_report_issued, telemetry, "authority"),
        on_failure=_log_failure,
    )


@dataclass(slots=True)
class _Readiness:
    """The webhook's readiness: called, it returns why it cannot answer now, empty where it can."""

    server: AdmissionServer
    certificate: ServingCertificate
    gates: GateCache

    def __call__(self) -> str:
        if self.server.draining:
            return "leaving"
        if not self.certificate.ready:
            return f"no certificate: waiting for {self.certificate.waits_for}"
        if not self.gates.synced:
            return "the LedgerGates are not known yet"
        return ""


def _now() -> datetime:
    return datetime.now(UTC)


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


def _report_issued(telemetry: Telemetry, kind: str, reason: str, expires_at: datetime) -> None:
    _set_expiry(telemetry, kind, expires_at)
    telemetry.rotations.inc()
    log_event("certificate.issued", kind=kind, reason=reason, expires=expires_at.isoformat())


def _set_expiry(telemetry: Telemetry, kind: str, expires_at: datetime) -> None:
    telemetry.expiry.labels(kind).set(expires_at.timestamp())


def _log_failure(error: CertificateError) -> None:
    log_event("certificate.failed", level=logging.WARNING, error=str(error))
