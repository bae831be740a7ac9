"""The two long-running roles, put together: the webhook and the controller. Each runs until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from certs import tls
from certs.authority_keeper import AuthorityKeeper
from certs.dynamic_source import DynamicCertificate
from certs.file_source import FileCertificate
from certs.pki import CertificateError
from certs.serving import ServingCertificate
from webhook.admission.connections import Limits, expected_client
from webhook.admission.handlers import Admission
from webhook.admission.listener import connection_limit, raise_file_limit
from webhook.admission.server import PROBE_LIMITS, AdmissionServer, Site, drain, probes, serving
from webhook.api.account import controller_account
from webhook.cache.gates import GateCache
from webhook.cache.leader import LeaderWatch
from webhook.cache.recorded_images import RecordedImages
from webhook.cache.recorded_ledgers import RecordedLedgers
from webhook.cache.service_networks import ServiceNetworks
from webhook.certificates import CaSecretStore, TrustWatch, WebhookConfigurations
from webhook.kube.client import KubeClient
from webhook.kube.kubeconfig import connect
from webhook.kube.leader_election import LeaderElector
from webhook.kube.token_review import Access, TokenAuthorizer
from webhook.registries.settings import RegistrySettings
from webhook.settings import CA_SECRET, LEASE, ControllerSettings, Settings, WebhookSettings
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
        trust = TrustWatch(cluster, (settings.namespace, CA_SECRET))
        certificate = _certificate_source(settings, cluster, trust, telemetry)
        images, controller = RecordedImages(leader, _now), controller_account(settings.namespace)
        server = AdmissionServer(Admission(gates, ledgers, _now, images, controller), gates, telemetry)
        readiness = _Readiness(server, certificate, gates)
        async with (
            serving(
                Site(
                    server.handle,
                    settings.bind,
                    certificate.context,
                    Limits(connections=connection_limit(raise_file_limit())),
                    expected_client(settings.client_names),
                    last_seconds=min(1.0, settings.drain.total_seconds()),
                ),
                Site(
                    probes(lambda: True, readiness, telemetry, metrics_refusal(settings, cluster)),
                    settings.metrics_bind,
                    limits=PROBE_LIMITS,
                ),
            ),
            asyncio.TaskGroup() as group,
        ):
            tasks = [group.create_task(part.run()) for part in (gates, leader, certificate)]
            if settings.tls_cert_file is None:
                tasks.append(group.create_task(trust.run()))
            log_event("webhook.started", bind=str(settings.bind), identity=settings.identity)
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
    from webhook.controller.own_account import OwnAccount  # noqa: PLC0415
    from webhook.registries.client import RegistryClient  # noqa: PLC0415 - nor a client of registries

    stop, telemetry = _stop_signal(), Telemetry()
    raise_file_limit()
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(await connect(settings.kubeconfig, "ledgergate-controller"))
        services, account = ServiceNetworks(cluster), OwnAccount(cluster, settings.namespace)
        registry_client = await stack.enter_async_context(
            RegistryClient(replace(registries, addresses=replace(registries.addresses, services=services.current)))
        )
        elector = LeaderElector(cluster, (settings.namespace, LEASE), settings.identity, settings.lease_duration)
        telemetry.leader.set_function(lambda: float(elector.is_leader))

        leading: list[Controller] = []

        async def term() -> None:
            await services.wait_known()  # no registry is asked before: it could be a Service
            # A new controller each term: what an earlier one knew may have been changed by another leader since.
            controller = Controller(
                cluster,
                settings.identity,
                telemetry,
                _now,
                time.monotonic,
                settings.gates_per_namespace,
                sessions_per_server=settings.sessions_per_server,
                allowed_hosts=settings.allowed_database_hosts,
                registries=registry_client,
                registry_config=settings.registry_config,
            )
            leading.append(controller)
            try:
                async with asyncio.TaskGroup() as parts:
                    if settings.own_certificates:
                        trust = TrustWatch(cluster, (settings.namespace, CA_SECRET))
                        parts.create_task(trust.run())
                        parts.create_task(_authority_keeper(settings, cluster, trust, telemetry).run())
                    parts.create_task(controller.run())
            finally:
                leading.remove(controller)
                telemetry.clear_leader_series()

        def unready() -> str:
            # With a wrong account the controller works, but is not ready: a rollout stops and keeps the older replicas.
            problems = (elector.problem, services.problem, account.problem, *(each.unready for each in leading))
            return next(filter(None, problems), "")

        async with (
            serving(
                Site(
                    probes(lambda: True, unready, telemetry, metrics_refusal(settings, cluster)),
                    settings.metrics_bind,
                    limits=PROBE_LIMITS,
                )
            ),
            asyncio.TaskGroup() as group,
        ):
            tasks = [group.create_task(part) for part in (services.run(), elector.run(term))]
            if settings.own_certificates:
                tasks.append(group.create_task(account.run()))
            log_event("controller.started", identity=settings.identity)
            await stop.wait()
            _cancel(tasks)


_STATUSES = {Access.GRANTED: 0, Access.UNKNOWN: 401, Access.REFUSED: 403, Access.UNDECIDED: 503}
"""HTTP statuses of requests for metrics; 0 for an answer."""


def metrics_refusal(settings: Settings, cluster: KubeClient) -> Callable[[str], Awaitable[int]] | None:
    """Return what decides about requests for metrics, see :func:`probes`; None where every request is answered."""
    if not settings.metrics_auth:
        return None
    authorizer = TokenAuthorizer(cluster, "/metrics")

    async def refusal(token: str) -> int:
        return _STATUSES[await authorizer.access(token)]

    return refusal


def _certificate_source(
    settings: WebhookSettings, cluster: KubeClient, trust: TrustWatch, telemetry: Telemetry
) -> ServingCertificate:
    on_issued = partial(_report_issued, telemetry, "serving")
    authority = None if settings.client_ca is None else settings.client_ca.read_text(encoding="ascii", errors="replace")
    context = tls.server_context(settings.tls_min_version, authority)
    if settings.tls_cert_file is not None and settings.tls_key_file is not None:
        return FileCertificate(
            settings.tls_cert_file,
            settings.tls_key_file,
            clock=_now,
            on_issued=on_issued,
            on_failure=_log_failure,
            context=context,
        )
    store = CaSecretStore(cluster, settings.namespace, CA_SECRET)
    return DynamicCertificate(
        store,
        settings.names,
        clients=trust,
        clock=_now,
        on_issued=on_issued,
        on_failure=_log_failure,
        context=context,
        changed=trust.changed,
    )


def _authority_keeper(
    settings: ControllerSettings, cluster: KubeClient, trust: TrustWatch, telemetry: Telemetry
) -> AuthorityKeeper:
    return AuthorityKeeper(
        CaSecretStore(cluster, settings.namespace, CA_SECRET),
        WebhookConfigurations(cluster, settings.webhook_url),
        clock=_now,
        on_checked=partial(_set_expiry, telemetry, "authority"),
        on_issued=partial(_report_issued, telemetry, "authority"),
        on_failure=_log_failure,
        changed=trust.changed,
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
