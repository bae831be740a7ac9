"""Credentials for the API server, from a kubeconfig or from the pod's service account."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration

from webhook.kube.client import KubeClient

USER_AGENT = "ledgergate-cli"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class KubeconfigError(Exception):
    """There are no credentials for an API server, or they cannot be read."""


@dataclass(frozen=True, slots=True)
class ClusterTarget:
    """The cluster, and the namespace in it, that a command is about.

    Args:
        kubeconfig: a kubeconfig; None for `KUBECONFIG`, then `~/.kube/config`, then the pod's own service account.
        context: a context of the kubeconfig; None for its current one.
        namespace: the namespace; None for the context's, else `default`.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None


async def connect(kubeconfig: Path | None, user_agent: str) -> KubeClient:
    """Connect with the credentials of a kubeconfig, or with the pod's service account where none is given.

    The webhook and the controller connect in this way: neither falls back to a kubeconfig that it finds.

    Raises:
        KubeconfigError: there are no credentials, or they cannot be read.
    """
    hint = "outside a pod, name a kubeconfig with --kubeconfig"
    configuration, _ = await _load(str(kubeconfig or ""), None, hint)
    return _client(configuration, user_agent)


@asynccontextmanager
async def connect_to(target: ClusterTarget) -> AsyncIterator[tuple[KubeClient, str]]:
    """Yield a connection and the namespace to use, by kubectl's order of precedence.

    https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#the-kubeconfig-environment-variable

    Raises:
        KubeconfigError: there are no credentials, or they cannot be read.
    """
    hint = "name a kubeconfig with --kubeconfig or KUBECONFIG, and one of its contexts with --context"
    configuration, namespace = await _load(_kubeconfig(target), target.context, hint)
    async with _client(configuration, USER_AGENT) as cluster:
        yield cluster, target.namespace or namespace


def _client(configuration: Configuration, user_agent: str) -> KubeClient:
    configuration.proxy = configuration.proxy or _environment_proxy(configuration.host or "")
    client = ApiClient(configuration)
    # Of the same configuration, not of a copy: a token that expires is replaced in the configuration.
    limit, configuration.connection_pool_maxsize = configuration.connection_pool_maxsize, 0
    watches = ApiClient(configuration)
    configuration.connection_pool_maxsize = limit
    for each in (client, watches):
        # Else aiohttp looks up the proxy and reads ~/.netrc in a thread, anew for each request, which is a third of its
        # time; and a login found there, which is not the cluster's, would make every request fail.
        each.rest_client.pool_manager._trust_env = False  # noqa: SLF001 - the library offers no parameter
    client.user_agent = watches.user_agent = user_agent
    return KubeClient(client, watches)


def _environment_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for a URL (`HTTPS_PROXY`, `NO_PROXY`); None where it names none."""
    address = urlsplit(url)
    return None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)


def _kubeconfig(target: ClusterTarget) -> str:
    """Return the path of the kubeconfig: the one that is given, else kubectl's default; empty where there is none."""
    given = str(target.kubeconfig or os.environ.get("KUBECONFIG", ""))
    default = Path.home() / ".kube" / "config"
    # A context can only come from a kubeconfig: with one, a missing file is an error and no reason to go on without.
    return given or (str(default) if target.context or default.is_file() else "")


async def _load(file: str, context: str | None, hint: str) -> tuple[Configuration, str]:
    """Return the credentials of a kubeconfig, or of the pod's service account, and their namespace.

    Args:
        file: path of the kubeconfig; empty for the pod's service account.
        hint: what to do where there are none.
    """
    configuration = Configuration()
    try:
        if not file:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            return configuration, _pod_namespace()
        loader = await config.load_kube_config(file, context, configuration)
        current: dict[str, Any] = loader.current_context or {}
        return configuration, current.get("context", {}).get("namespace") or "default"
    except Exception as error:  # the loader raises nearly any exception for a file that is broken
        where = f" ({file})" if file else ""
        raise KubeconfigError(f"no access to an API server: {str(error).rstrip('. ')}{where}; {hint}") from error


def _pod_namespace() -> str:
    return _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.is_file() else "default"
