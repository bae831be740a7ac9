"""The commands ``ledgergate webhook`` and ``ledgergate controller``."""

import gc
import os
import socket
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import uvloop

from certs.pki import CertificateError
from migrations.cli.conventions import Seconds, flag, format_examples
from webhook.admission.server import COLLECTION_THRESHOLDS
from webhook.app import run_controller, run_webhook
from webhook.cli.registry_flags import read_registry_settings, registry_flags
from webhook.kube.kubeconfig import KubeconfigError
from webhook.settings import ControllerSettings, Endpoint, Settings, SettingsError, WebhookSettings, read_namespace
from webhook.telemetry import configure_logging

Function = TypeVar("Function", bound=Callable[..., Any])
S = TypeVar("S", bound=Settings)

_CONTROLLER_THRESHOLDS = (700, 10, 10)
"""Of the garbage collector: Python's own, which suit a process that runs for long; the entry point raises them for
short runs."""


class _EndpointType(click.ParamType[Endpoint]):
    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        try:
            return value if isinstance(value, Endpoint) else Endpoint.parse(value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)


def _fill_in(shared: dict[str, Any]) -> dict[str, Any]:
    """Return the common flags with defaults that depend on the pod or host."""
    return {
        **shared,
        "namespace": read_namespace(shared["namespace"]),
        "identity": shared["identity"] or f"{socket.gethostname()}-{os.getpid()}",
    }


def _common_flags(command: Function) -> Function:
    flags = (
        flag(
            "--kubeconfig",
            "Run outside a cluster, with this kubeconfig. Without it: the service account of the pod.",
            type=click.Path(path_type=Path),
        ),
        flag("--namespace", "Namespace of ledgergate. Without it: the pod's own, else ledgergate."),
        flag("--identity", "Name of this replica. Without it: the host's name and the process id."),
        flag(
            "--webhook-url",
            "Where the API server calls the webhook, https://HOST:PORT. Without it: the Service ledgergate-webhook.",
        ),
        flag(
            "--gates-per-namespace",
            "LedgerGates of a namespace that count, the oldest first; the same for webhook and controller.",
            type=click.IntRange(min=1),
            default=100,
            show_default=True,
        ),
        flag(
            "--metrics-bind",
            "HOST:PORT of /livez, /readyz and /metrics, without TLS. Without HOST: every address, IPv4 and IPv6.",
            type=_EndpointType(),
            default=":8080",
            show_default=True,
        ),
        flag(
            "--metrics-auth",
            "Answer /metrics only with a token whose account may get the path /metrics; asks the API server.",
            is_flag=True,
        ),
        flag(
            "--log-format",
            "Format of log lines.",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
        ),
    )
    for declare in reversed(flags):
        command = declare(command)
    return command


@click.command(
    epilog=format_examples(
        "ledgergate webhook",
        "ledgergate webhook --kubeconfig ~/.kube/config --bind 127.0.0.1:9443 --webhook-url https://127.0.0.1:9443",
    )
)
@_common_flags
@flag(
    "--bind",
    "HOST:PORT of /mutate, /validate and /validate-workload, with TLS. Without HOST: every address, IPv4 and IPv6.",
    type=_EndpointType(),
    default=":9443",
    show_default=True,
)
@flag(
    "--tls-cert-file",
    "Serving certificate (PEM) that something else renews, such as cert-manager. Without it: ledgergate signs its own.",
    type=click.Path(path_type=Path),
)
@flag("--tls-key-file", "Private key of that certificate (PEM).", type=click.Path(path_type=Path))
@flag(
    "--tls-min-version",
    "The oldest version of TLS that is spoken.",
    type=click.Choice(["1.2", "1.3"]),
    default="1.3",
    show_default=True,
)
@flag(
    "--client-ca",
    "Certificate authorities (PEM): only clients with a certificate of one of them are answered, so the API server "
    "must be configured to send one. Without it: any client.",
    type=click.Path(path_type=Path),
)
@flag(
    "--client-name",
    "Common name that a client's certificate must have; may be repeated. Without it: any name.",
    multiple=True,
    metavar="NAME",
)
@flag(
    "--drain",
    "How long to go on answering after SIGTERM, 10m at most.",
    type=Seconds(maximum=600),
    default="10s",
    show_default=True,
    metavar="DURATION",
)
def webhook(
    bind: Endpoint,
    drain: float,
    tls_cert_file: Path | None,
    tls_key_file: Path | None,
    tls_min_version: str,
    client_ca: Path | None,
    client_name: tuple[str, ...],
    log_format: str,
    **shared: Any,
) -> None:
    """Run the admission server.

    It answers the API server's requests from the LedgerGates and their status alone: it opens no database. It signs its
    own certificate with the CA Secret that the controller keeps, and writes nothing to the cluster. Runs until SIGTERM;
    exits 2 when a setting is wrong.
    """
    settings = WebhookSettings(
        bind=bind,
        drain=timedelta(seconds=drain),
        tls_cert_file=tls_cert_file,
        tls_key_file=tls_key_file,
        tls_min_version=tls_min_version,
        client_ca=client_ca,
        client_names=client_name,
        **_fill_in(shared),
    )
    _run(settings, log_format, run_webhook, COLLECTION_THRESHOLDS)


@click.command(
    epilog=format_examples(
        "ledgergate controller",
        "ledgergate controller --kubeconfig ~/.kube/config --webhook-url https://127.0.0.1:9443",
    )
)
@_common_flags
@flag(
    "--certificates",
    "What keeps the webhook's certificate and caBundle: `own` is ledgergate, `external` is another tool, such as "
    "cert-manager.",
    type=click.Choice(["own", "external"]),
    default="own",
    show_default=True,
)
@flag(
    "--lease-duration",
    "How long until a dead leader is replaced, at least 3s.",
    type=Seconds(minimum=3),
    default="5s",
    show_default=True,
    metavar="DURATION",
)
@flag(
    "--sessions-per-server",
    "Sessions on one database server at a time, however many ledgers are there.",
    type=click.IntRange(min=1, max=1000),
    default=10,
    show_default=True,
)
@flag(
    "--allowed-database-hosts",
    "Database servers that may be connected to, separated by commas: names, suffixes (.example.com), networks "
    "(10.0.0.0/8). Without it: any but link-local addresses and metadata services.",
    default="",
    metavar="HOSTS",
)
@registry_flags
def controller(
    lease_duration: float,
    certificates: str,
    sessions_per_server: int,
    allowed_database_hosts: str,
    log_format: str,
    registry_config: Path | None,
    registries: dict[str, Any],
    **shared: Any,
) -> None:
    """Run the controller.

    The replica that holds the Lease releases held pods as soon as their ledger is where they need it, writes the status
    of every LedgerGate, and keeps the certificate authority and the webhook configurations' caBundle. Runs until
    SIGTERM; exits 2 when a setting is wrong.
    """
    settings = ControllerSettings(
        lease_duration=timedelta(seconds=round(lease_duration)),
        sessions_per_server=sessions_per_server,
        own_certificates=certificates == "own",
        allowed_database_hosts=tuple(filter(None, map(str.strip, allowed_database_hosts.split(",")))),
        registry_config=registry_config,
        **_fill_in(shared),
    )
    role = partial(run_controller, registries=read_registry_settings(registries))
    _run(settings, log_format, role, _CONTROLLER_THRESHOLDS)


def _run(
    settings: S, log_format: str, role: Callable[[S], Coroutine[Any, Any, None]], thresholds: tuple[int, int, int]
) -> None:
    problems = settings.problems()
    if problems:
        raise click.UsageError("\n".join(problems))
    configure_logging(log_format)
    gc.freeze()  # what the imports made stays until the process ends
    gc.set_threshold(*thresholds)
    try:
        uvloop.run(role(settings))
    except (KubeconfigError, CertificateError, OSError) as error:
        raise click.UsageError(str(error)) from error
