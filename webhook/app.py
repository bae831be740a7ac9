"""The two long-running roles, put together: the webhook and the controller, each until it is told to stop."""

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
from webhook.admission.handlers import Admission
from webhook.admission.server import AdmissionServer, drain, probes, serving
from webhook.certificates import CaSecretStore, WebhookConfigurations
from webhook.controller.controller import Controller
from webhook.kube.client import KubeClient
from webhook.kube.kubeconfig import connect
from webhook.kube.leader_election import LeaderElector
from webhook.ledgers.registry import GateCache
from webhook.settings import CA_SECRET, LEASE, ControllerSettings, WebhookSettings
from webhook.telemetry import Telemetry, log_event


async def run_webhook(settings: WebhookSettings) -> None:
    """Serve admission until SIGTERM or SIGINT, then drain.

    Raises:
        webhook.kube.kubeconfig.KubeconfigError: there is no way to an API server.
        OSError: an address to listen on is taken.
    """
    stop, telemetry = _stop_signal(), Telemetry()
    async with await connect(settings.kubeconfig, "ledgergate-webhook") as cluster:
        guard = GateCache(cluster, settings.identity, on_read=telemetry.read_duration.observe)
        certificate = _certificate(settings, cluster, telemetry)
        server = AdmissionServer(Admission(guard, _now), guard, telemetry)
        ready = _Readiness(server, certificate, guard)
        async with (
            serving(
                (server.application, settings.bind, certificate.context),
                (probes(lambda: True, ready, telemetry), settings.metrics_bind, None),
            ),
            asyncio.TaskGroup() as group,
        ):
            work = [group.create_task(guard.run()), group.create_task(certificate.run())]
            log_event("webhook.started", bind=f"{settings.bind.host}:{settings.bind.port}", identity=settings.identity)
            await stop.wait()
            await drain(server, settings.drain.total_seconds())
            _cancel(work)


async def run_controller(settings: ControllerSettings) -> None:
    """Release pods and keep statuses and certificates, while we are the leader, until SIGTERM or SIGINT.

    Raises:
        webhook.kube.kubeconfig.KubeconfigError: there is no way to an API server.
        OSError: the address to listen on is taken.
    """
    stop, telemetry = _stop_signal(), Telemetry()
    async with await connect(settings.kubeconfig, "ledgergate-controller") as cluster:
        leadership = LeaderElector(cluster, (settings.namespace, LEASE), settings.identity, settings.lease_duration)
        telemetry.leader.set_function(lambda: float(leadership.held))

        async def term() -> None:
            controller = Controller(cluster, settings.identity, telemetry, _now, time.monotonic)
            try:
                async with asyncio.TaskGroup() as both:
                    if settings.own_certificates:
                        both.create_task(_keeper(settings, cluster, telemetry).run())
                    both.create_task(controller.run())
            finally:
                telemetry.resign()

        async with (
            serving((probes(lambda: True, lambda: "", telemetry), settings.metrics_bind, None)),
            asyncio.TaskGroup() as group,
        ):
            work = [group.create_task(leadership.run(term))]
            log_event("controller.started", identity=settings.identity)
            await stop.wait()
            _cancel(work)


def _certificate(
    settings: WebhookSettings, cluster: KubeClient, telemetry: Telemetry
) -> DynamicCertificate | FileCertificate:
    issued = partial(_issued, telemetry, "serving")
    if settings.tls_cert_file is not None and settings.tls_key_file is not None:
        return FileCertificate(
            settings.tls_cert_file, settings.tls_key_file, clock=_now, issued=issued, failed=_certificate_failed
        )
    store = CaSecretStore(cluster, settings.namespace, CA_SECRET)
    return DynamicCertificate(store, settings.names, clock=_now, issued=issued, failed=_certificate_failed)


def _keeper(settings: ControllerSettings, cluster: KubeClient, telemetry: Telemetry) -> AuthorityKeeper:
    return AuthorityKeeper(
        CaSecretStore(cluster, settings.namespace, CA_SECRET),
        WebhookConfigurations(cluster, settings.webhook_url),
        clock=_now,
        seen=partial(_seen, telemetry, "authority"),
        issued=partial(_issued, telemetry, "authority"),
        failed=_certificate_failed,
    )


@dataclass(slots=True)
class _Readiness:
    """Why the webhook cannot answer now; empty where it can.

    Ledgers count only at the start, so that nobody is sent to a replica that holds everything because it has read
    nothing yet; a gate that comes later concerns its own namespace alone.
    """

    server: AdmissionServer
    certificate: DynamicCertificate | FileCertificate
    guard: GateCache
    settled: bool = False

    def __call__(self) -> str:
        if self.server.draining:
            return "leaving"
        if not self.certificate.ready:
            return f"no certificate: waiting for {self.certificate.origin}"
        if not self.guard.synced:
            return "the LedgerGates are not known yet"
        if not self.settled and self.guard.unsettled:
            return f"ledgers not read yet: {', '.join('/'.join(key) for key in self.guard.unsettled)}"
        self.settled = True
        return ""


def _now() -> datetime:
    return datetime.now(UTC)


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _cancel(work: list[asyncio.Task[None]]) -> None:
    for task in work:
        task.cancel()


def _issued(telemetry: Telemetry, kind: str, reason: str, expires_at: datetime) -> None:
    _seen(telemetry, kind, expires_at)
    telemetry.rotations.inc()
    log_event("certificate.issued", kind=kind, reason=reason, expires=expires_at.isoformat())


def _seen(telemetry: Telemetry, kind: str, expires_at: datetime) -> None:
    telemetry.expiry.labels(kind).set(expires_at.timestamp())


def _certificate_failed(error: CertificateError) -> None:
    log_event("certificate.failed", level=logging.WARNING, error=str(error))
