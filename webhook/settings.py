"""What an operator can set, checked before anything starts."""

import ipaddress
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

_PORTS = range(65536)
_IDENTITY_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")


class SettingsError(ValueError):
    """A setting that cannot be read; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to listen on."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read ``HOST:PORT``, ``:PORT`` or ``[IPv6]:PORT``.

        Raises:
            SettingsError: it is none of them.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()) or int(port) not in _PORTS:
            raise SettingsError(f"{text!r} is no address to listen on: expected HOST:PORT, such as 0.0.0.0:9443")
        return cls(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - what an absent host means


@dataclass(frozen=True, slots=True)
class Settings:
    """What the webhook and the controller share."""

    identity: str
    """This replica's name in the Lease and in the database's list of sessions; the pod's name, else host and pid."""

    metrics_bind: Endpoint
    """Where /livez, /readyz and /metrics are served in plain text; not with admission, so that it can be closed off."""

    namespace: str = "ledgergate"
    """Our own namespace: the CA Secret, the Lease and the Service are there."""

    kubeconfig: Path | None = None
    """How to reach the API server from outside a cluster; None for the pod's service account."""

    webhook_url: str | None = None
    """Where the API server reaches the webhook, ``https://HOST:PORT``; None for the Service of our namespace."""

    def problems(self) -> list[str]:
        """Return everything that cannot work."""
        found = []
        if not _LABEL.match(self.namespace):
            found.append(f"--namespace: {self.namespace!r} is no namespace name")
        if self.kubeconfig is not None and not self.kubeconfig.is_file():
            found.append(f"--kubeconfig: there is no file {self.kubeconfig}")
        if self.webhook_url is not None and not _callable(self.webhook_url):
            found.append("--webhook-url: expected https://HOST:PORT, without path, query or user")
        return found


SERVICE = "ledgergate-webhook"
CA_SECRET = "ledgergate-ca"  # noqa: S105 - its name
LEASE = "ledgergate-controller"
CONFIGURATION = "ledgergate"


@dataclass(frozen=True, slots=True)
class WebhookSettings(Settings):
    """What only the webhook needs."""

    bind: Endpoint = Endpoint("0.0.0.0", 9443)  # noqa: S104 - every pod address
    """Where admission is served, over TLS."""

    tls_cert_file: Path | None = None
    """The certificate to serve with (PEM), which somebody else keeps, such as cert-manager; None to sign our own."""

    tls_key_file: Path | None = None
    """Its private key (PEM)."""

    drain: timedelta = timedelta(seconds=10)
    """How long a leaving replica goes on answering: until the API server has lost it from the Service."""

    def problems(self) -> list[str]:
        """Return everything that cannot work."""
        found = Settings.problems(self)
        if (self.tls_cert_file is None) is not (self.tls_key_file is None):
            found.append("--tls-cert-file and --tls-key-file: expected both or neither, got one of them")
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """What the serving certificate must be valid for: the Service's DNS names, and the host of ``webhook_url``."""
        service = f"{SERVICE}.{self.namespace}.svc"
        names = (service, f"{service}.cluster.local")
        host = urlsplit(self.webhook_url).hostname if self.webhook_url else None
        return names if host is None else (*names, _canonical_host(host))


@dataclass(frozen=True, slots=True)
class ControllerSettings(Settings):
    """What only the controller needs."""

    lease_duration: timedelta = timedelta(seconds=5)
    """How long pods may wait for a new leader when one dies without a word. Two leaders at once do no harm, since a
    release is the same whoever does it; so it is short, at the price of one small request a second."""

    own_certificates: bool = True
    """Whether we keep the CA Secret and the webhook configurations' caBundle; not where cert-manager does."""


def read_namespace(given: str | None) -> str:
    """Return our namespace: what was given, else the pod's own, else ``ledgergate``."""
    if given:
        return given
    return _IDENTITY_NAMESPACE.read_text().strip() if _IDENTITY_NAMESPACE.is_file() else "ledgergate"


def _callable(url: str) -> bool:
    """Tell whether a webhook configuration may have this URL (its `clientConfig.url`), to which we add the path."""
    try:
        parts = urlsplit(url)
        authority = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:  # an unclosed bracket, a port that is none
        return False
    return authority and parts.scheme == "https" and not (parts.path.strip("/") or parts.query or parts.fragment)


def _canonical_host(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()
