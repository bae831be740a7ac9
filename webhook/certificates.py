"""Certificates in the cluster: the CA Secret, and the webhook configurations that carry its bundle."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from certs.pki import contains
from certs.secret import Unavailable
from webhook.api.objects import Metadata, Secret, Struct
from webhook.kube.client import KubeClient
from webhook.kube.collection import Collection
from webhook.kube.errors import ClusterError, Conflict, NotFound
from webhook.kube.reflector import Reflector
from webhook.settings import CONFIGURATION

_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1"
_KINDS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")


class CaSecretStore:
    """The CA Secret, as a :class:`certs.secret.SecretStore`."""

    def __init__(self, cluster: KubeClient, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._collection = f"/api/v1/namespaces/{namespace}/secrets"
        self._name = name
        self._found: dict[str, Any] = {}

    async def read(self) -> Mapping[str, bytes] | None:
        """Return the Secret's data; None where it does not exist."""
        try:
            body = await self._cluster.request("GET", f"{self._collection}/{self._name}")
        except NotFound:
            return None
        except ClusterError as error:
            raise Unavailable(f"CA Secret {self._name}: {error}") from error
        self._found = msgspec.json.decode(body)
        return msgspec.convert(self._found, type=Secret).data or {}

    async def create(self, data: Mapping[str, bytes]) -> bool:
        """Create the Secret; return False where another replica was first."""
        metadata = {"name": self._name, "labels": {"app.kubernetes.io/name": "ledgergate"}}
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata}
        return await self._write("POST", self._collection, secret | {"data": _encoded(data)})

    async def replace(self, data: Mapping[str, bytes]) -> bool:
        """Replace the Secret's data and keep the rest; return False where it has changed or gone since it was read."""
        # The whole object goes back with the resourceVersion that it was read with: the API server refuses it with a
        # conflict if anything has changed since, and labels or annotations of others survive.
        return await self._write("PUT", f"{self._collection}/{self._name}", self._found | {"data": _encoded(data)})

    async def _write(self, method: str, path: str, body: Mapping[str, Any]) -> bool:
        try:
            await self._cluster.request(method, path, body=body)
        except (Conflict, NotFound):
            return False
        except ClusterError as error:
            raise Unavailable(f"CA Secret {self._name}: {error}") from error
        return True


def _encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in data.items()}


class _Service(Struct, frozen=True):
    path: str = ""


class _ClientConfig(Struct, frozen=True):
    ca_bundle: bytes = b""
    url: str | None = None
    service: _Service | None = None

    @property
    def path(self) -> str:
        """The path that the manifests give this webhook, at the Service or at a URL."""
        return self.service.path if self.service else urlsplit(self.url or "").path


class _Webhook(Struct, frozen=True):
    name: str
    client_config: _ClientConfig


class WebhookConfiguration(Struct, frozen=True):
    """A webhook configuration, as far as trust goes."""

    metadata: Metadata
    webhooks: tuple[_Webhook, ...] = ()


class WebhookConfigurations:
    """Both webhook configurations, as a :class:`certs.authority_keeper.BundlePublisher`.

    Args:
        url: the webhook's address, if it is not behind the Service that the manifests name.
    """

    def __init__(self, cluster: KubeClient, url: str | None = None) -> None:
        self._cluster = cluster
        self._url = url.rstrip("/") if url else None

    async def published(self) -> bytes:
        """Return what the webhooks trust now, the bundle of each once."""
        found: dict[bytes, None] = {}
        for kind in _KINDS:
            try:
                body = await self._cluster.request("GET", f"{_CONFIGURATIONS}/{kind}/{CONFIGURATION}")
            except NotFound:
                continue
            except ClusterError as error:
                raise Unavailable(f"{kind} {CONFIGURATION}: {error}") from error
            hooks = msgspec.json.decode(body, type=WebhookConfiguration).webhooks
            found.update(dict.fromkeys(hook.client_config.ca_bundle for hook in hooks))
        return b"\n".join(found)

    async def publish(self, bundle: bytes) -> None:
        """Write the bundle, and the URL if there is one, into each webhook that lacks it; change nothing else."""
        for kind in _KINDS:
            path = f"{_CONFIGURATIONS}/{kind}/{CONFIGURATION}"
            try:
                found = msgspec.json.decode(await self._cluster.request("GET", path), type=WebhookConfiguration)
                patch = [step for index, hook in enumerate(found.webhooks) for step in self._patch(index, hook, bundle)]
                if patch:
                    await self._cluster.request("PATCH", path, body=patch, content="json-patch")
            except NotFound as error:
                raise Unavailable(f"{kind} {CONFIGURATION} does not exist; apply ledgergate's manifests") from error
            except ClusterError as error:
                raise Unavailable(f"{kind} {CONFIGURATION}: {error}") from error

    def _patch(self, index: int, hook: _Webhook, bundle: bytes) -> list[dict[str, Any]]:
        url = f"{self._url}{hook.client_config.path}" if self._url else None
        if hook.client_config.ca_bundle == bundle and hook.client_config.url == (url or hook.client_config.url):
            return []
        path = f"/webhooks/{index}"
        encoded = base64.b64encode(bundle).decode()
        # A JSON patch addresses a list by index. The test makes it fail where the list has changed since it was read,
        # instead of writing to another webhook; the next refresh tries again.
        test = {"op": "test", "path": f"{path}/name", "value": hook.name}
        if url is None:
            return [test, {"op": "add", "path": f"{path}/clientConfig/caBundle", "value": encoded}]
        return [test, {"op": "replace", "path": f"{path}/clientConfig", "value": {"url": url, "caBundle": encoded}}]


class TrustWatch:
    """Follows the CA Secret and both webhook configurations: a :class:`certs.dynamic_source.Clients`.

    Args:
        secret: namespace and name.

    Attributes:
        changed: set with each change of one of them.
    """

    def __init__(self, cluster: KubeClient, secret: tuple[str, str]) -> None:
        self.changed = asyncio.Event()
        namespace, name = secret
        self._secret = Reflector(
            Collection(cluster, f"/api/v1/namespaces/{namespace}/secrets", _Named, _named(name)), self._set
        )
        self._configurations: list[Reflector[WebhookConfiguration]] = [
            Reflector(
                Collection(cluster, f"{_CONFIGURATIONS}/{kind}", WebhookConfiguration, _named(CONFIGURATION)), self._set
            )
            for kind in _KINDS
        ]

    async def run(self) -> None:
        """Follow them until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._secret.run())
            for each in self._configurations:
                group.create_task(each.run())

    def trust(self, authority: bytes) -> bool:
        """Return whether every webhook's caBundle has an authority; True where none is known, since none is called."""
        return all(
            contains(hook.client_config.ca_bundle, authority)
            for each in self._configurations
            for configuration in each.objects.values()
            for hook in configuration.webhooks
        )

    def _set(self, old: object, new: object) -> None:
        del old, new
        self.changed.set()


class _Named(Struct, frozen=True):
    """A Secret without its data: only that it has changed is of interest here."""

    metadata: Metadata


def _named(name: str) -> tuple[tuple[str, str], ...]:
    # RBAC accepts a field selector by name for a right on that name alone.
    return (("fieldSelector", f"metadata.name={name}"),)
