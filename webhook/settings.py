"""Settings of the webhook and the controller, checked before anything starts."""

import ipaddress
import re
import socket
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from migrations.core.networks import HostPolicy

_PORTS = range(65536)
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")


class SettingsError(ValueError):
    """A setting that cannot be parsed; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to listen on.

    Args:
        host: an IP address or a name; None for every address, IPv4 and IPv6.
        port: the port.
    """

    host: str | None
    port: int

    def __str__(self) -> str:
        """Return the address as it is written in a flag."""
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read ``HOST:PORT``, ``[IPv6]:PORT``, or ``:PORT`` for every address of the machine.

        Raises:
            SettingsError: it is not an address of one of these forms.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()) or int(port) not in _PORTS:
            raise SettingsError(f"{text!r} is not an address to listen on: expected HOST:PORT or :PORT, such as :9443")
        return cls(host.strip("[]") or _every_address(), int(port))


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that the webhook and the controller share."""

    identity: str
    """This replica's name, in the Lease and in the database's list of sessions: the pod's name, else host and pid."""

    metrics_bind: Endpoint
    """Address of /livez, /readyz and /metrics, without TLS. A NetworkPolicy can close it without closing admission."""

    namespace: str = "ledgergate"
    """Namespace of the CA Secret, the Lease and the Service."""

    kubeconfig: Path | None = None
    """Credentials for the API server from outside a cluster; None for the pod's service account."""

    webhook_url: str | None = None
    """Address at which the API server calls the webhook, ``https://HOST:PORT``; None for the Service."""

    gates_per_namespace: int = 100
    """LedgerGates of one namespace that count, the oldest first. What a pod costs grows with their number, and one
    namespace must not use up the time of all."""

    metrics_auth: bool = False
    """Whether /metrics, which names namespaces and LedgerGates, answers only tokens that the API server accepts. This
    needs the rights of the ClusterRole system:auth-delegator, so it is not the default."""

    def problems(self) -> list[str]:
        """Return every problem, each with its flag."""
        found = []
        if not _LABEL.match(self.namespace):
            found.append(f"--namespace: {self.namespace!r} is not a namespace name")
        if self.kubeconfig is not None and not self.kubeconfig.is_file():
            found.append(f"--kubeconfig: the file {self.kubeconfig} does not exist")
        if self.webhook_url is not None and not _is_webhook_url(self.webhook_url):
            found.append("--webhook-url: expected https://HOST:PORT, without path, query or user")
        return found


SERVICE = "ledgergate-webhook"
CA_SECRET = "ledgergate-ca"  # noqa: S105 - its name
LEASE = "ledgergate-controller"
CONFIGURATION = "ledgergate"


@dataclass(frozen=True, slots=True)
class WebhookSettings(Settings):
    """Settings of the webhook alone."""

    bind: Endpoint = Endpoint(None, 9443)
    """Address of the admission webhooks, over TLS."""

    tls_cert_file: Path | None = None
    """Serving certificate (PEM) that is issued elsewhere, such as by cert-manager; None where ledgergate issues it."""

    tls_key_file: Path | None = None
    """Private key of that certificate (PEM)."""

    tls_min_version: str = "1.3"
    """The oldest version of TLS that is spoken, 1.2 or 1.3."""

    client_ca: Path | None = None
    """Authorities (PEM) of the API server's client certificate; None to answer any client that can reach the port. An
    API server sends a certificate only if its admission configuration says so, so this cannot be the default."""

    client_names: tuple[str, ...] = ()
    """Common names of those certificates; empty for any that the authorities have signed."""

    drain: timedelta = timedelta(seconds=10)
    """How long a replica that is terminating still answers: until the API server no longer finds it by the Service."""

    def problems(self) -> list[str]:
        """Return every problem, each with its flag."""
        found = Settings.problems(self)
        if (self.tls_cert_file is None) is not (self.tls_key_file is None):
            found.append("--tls-cert-file and --tls-key-file: expected both or neither, got one of them")
        if self.client_ca is not None and not self.client_ca.is_file():
            found.append(f"--client-ca: the file {self.client_ca} does not exist")
        if self.client_names and self.client_ca is None:
            found.append("--client-name: expected with --client-ca, which checks who signed the name")
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Names that the serving certificate must cover: the Service's DNS names and the host of ``webhook_url``."""
        service = f"{SERVICE}.{self.namespace}.svc"
        names = (service, f"{service}.cluster.local")
        host = urlsplit(self.webhook_url).hostname if self.webhook_url else None
        return names if host is None else (*names, _canonical_host(host))


@dataclass(frozen=True, slots=True)
class ControllerSettings(Settings):
    """Settings of the controller alone."""

    lease_duration: timedelta = timedelta(seconds=5)
    """How long pods may wait for a new leader after one has died. It is short, since two leaders at once do no harm (a
    release is idempotent); the price is one small request a second."""

    sessions_per_server: int = 10
    """Sessions that the controller has on one database server at a time, however many ledgers are there. A server has
    100 by default, for all its applications."""

    registry_config: Path | None = None
    """Docker's ``config.json`` with logins of registries, for the images of every namespace; None for none."""

    own_certificates: bool = True
    """Whether the controller maintains the CA Secret and the ``caBundle``; not where cert-manager does."""

    allowed_database_hosts: tuple[str, ...] = ()
    """Database servers that may be connected to: host names, suffixes (``.example.com``), networks; empty for any.
    Tenants write the addresses, and the controller may reach what they cannot. Link-local addresses and metadata
    services are never connected to."""

    def problems(self) -> list[str]:
        """Return every problem, each with its flag."""
        found = Settings.problems(self)
        try:
            HostPolicy.parse(self.allowed_database_hosts)
        except ValueError as error:
            found.append(f"--allowed-database-hosts: {error}")
        if self.registry_config is not None and not self.registry_config.is_file():
            found.append(f"--registry-config: the file {self.registry_config} does not exist")
        return found


def read_namespace(given: str | None) -> str:
    """Return the namespace of ledgergate: the one that is given, else the pod's own, else ``ledgergate``."""
    return given or find_pod_namespace() or "ledgergate"


def find_pod_namespace() -> str | None:
    """Return the namespace of the pod in which this process runs; None outside a pod.

    https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
    """
    return _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.is_file() else None


def _every_address() -> str | None:
    """Return the host that means every address: None for both families, ``0.0.0.0`` where the machine has no IPv6.

    A kernel without IPv6, or with it disabled, refuses the second family's address, and so the whole start.
    """
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return "0.0.0.0"  # noqa: S104 - the pod's address is not known beforehand
    return None


def _is_webhook_url(url: str) -> bool:
    """Return whether the API server accepts this URL, with a path added, as a webhook's `clientConfig.url`."""
    try:
        parts = urlsplit(url)
        authority = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:  # an unclosed bracket, a port that is not a number
        return False
    return authority and parts.scheme == "https" and not (parts.path.strip("/") or parts.query or parts.fragment)


def _canonical_host(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()
