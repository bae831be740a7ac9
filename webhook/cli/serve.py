"""The commands ``ledgergate webhook`` and ``ledgergate controller``: flags to settings, all problems at once."""

import math
import os
import socket
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
import uvloop

from webhook.app import run_controller, run_webhook
from webhook.kube.kubeconfig import KubeconfigError
from webhook.settings import ControllerSettings, Endpoint, Settings, SettingsError, WebhookSettings, read_namespace
from webhook.telemetry import configure_logging

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _option(flag: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """Add a flag with its environment twin ``LEDGERGATE_<FLAG>``, both shown in ``--help``."""
    twin = f"LEDGERGATE_{flag.removeprefix('--').replace('-', '_').upper()}"
    return click.option(flag, envvar=twin, show_envvar=True, show_default=True, **attributes)


class _EndpointType(click.ParamType[Endpoint]):
    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        try:
            return value if isinstance(value, Endpoint) else Endpoint.parse(value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)


class _Seconds(click.FloatRange):
    """A number of seconds; click's own range lets `nan` through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = float(super().convert(value, param, ctx))
        return seconds if math.isfinite(seconds) else self.fail(f"{value} is no number of seconds", param, ctx)


def _read(shared: dict[str, Any]) -> dict[str, Any]:
    """Fill in what depends on where we run."""
    return {
        **shared,
        "namespace": read_namespace(shared["namespace"]),
        "identity": shared["identity"] or f"{socket.gethostname()}-{os.getpid()}",
    }


def _shared(command: Decorated) -> Decorated:
    options = (
        _option("--kubeconfig", type=click.Path(path_type=Path), help="Run outside a cluster, with this kubeconfig."),
        _option("--namespace", help="Our own namespace; the pod's own unless given, else ledgergate."),
        _option("--identity", help="This replica's name; the host's name and the process id unless given."),
        _option(
            "--webhook-url", help="Where the API server reaches the webhook, https://HOST:PORT, if not by Service."
        ),
        _option(
            "--metrics-bind",
            type=_EndpointType(),
            default="0.0.0.0:8080",
            help="HOST:PORT of /livez, /readyz and /metrics (plain).",
        ),
        _option("--log-format", type=click.Choice(["text", "json"]), default="text", help="How log lines are written."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command
@_shared
@_option("--bind", type=_EndpointType(), default="0.0.0.0:9443", help="HOST:PORT of /mutate and /validate (TLS).")
@_option(
    "--tls-cert-file",
    type=click.Path(path_type=Path),
    help="Serve this certificate (PEM), which somebody else renews, such as cert-manager; without it, sign our own.",
)
@_option("--tls-key-file", type=click.Path(path_type=Path), help="Its private key (PEM).")
@_option("--drain", type=_Seconds(min=0, max=600), default=10.0, help="Seconds to go on answering after SIGTERM.")
def webhook(
    bind: Endpoint,
    drain: float,
    tls_cert_file: Path | None,
    tls_key_file: Path | None,
    log_format: str,
    **shared: Any,
) -> None:
    r"""Run the admission server.

    It answers the API server's /mutate and /validate from what it knows of every LedgerGate and its ledger, signs its
    own certificate with the CA Secret that the controller keeps, and writes nothing to the cluster.

    \b
    Outside a cluster, against a local API server:
      ledgergate webhook --kubeconfig ~/.kube/config --bind 127.0.0.1:9443 --webhook-url https://127.0.0.1:9443
    """
    settings = WebhookSettings(
        bind=bind,
        drain=timedelta(seconds=drain),
        tls_cert_file=tls_cert_file,
        tls_key_file=tls_key_file,
        **_read(shared),
    )
    _run(settings, log_format, run_webhook)


@click.command
@_shared
@_option(
    "--certificates",
    type=click.Choice(["own", "external"]),
    default="own",
    help="Who keeps the webhook's certificate and caBundle: we, or somebody else, such as cert-manager.",
)
@_option("--lease-duration", type=click.IntRange(min=3), default=5, help="Seconds until a dead leader is replaced.")
def controller(lease_duration: int, certificates: str, log_format: str, **shared: Any) -> None:
    r"""Run the controller.

    The one replica that holds the Lease releases held pods as soon as their ledger is where they need it, writes the
    status of every LedgerGate, and keeps the certificate authority and the webhook configurations' caBundle.

    \b
    Outside a cluster, against a local API server:
      ledgergate controller --kubeconfig ~/.kube/config --webhook-url https://127.0.0.1:9443
    """
    settings = ControllerSettings(
        lease_duration=timedelta(seconds=lease_duration), own_certificates=certificates == "own", **_read(shared)
    )
    _run(settings, log_format, run_controller)


S = TypeVar("S", bound=Settings)


def _run(settings: S, log_format: str, role: Callable[[S], Coroutine[Any, Any, None]]) -> None:
    problems = settings.problems()
    if problems:
        raise click.UsageError("\n".join(problems))
    configure_logging(log_format)
    try:
        uvloop.run(role(settings))
    except (KubeconfigError, OSError) as error:
        raise click.UsageError(str(error)) from error
