"""Credentials for the API server, from a kubeconfig or from the pod's service account."""

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration

from webhook.kube.client import KubeClient
from webhook.kube.session import find_proxy, impersonation
from webhook.settings import find_pod_namespace

USER_AGENT = "ledgergate-cli"


class KubeconfigError(Exception):
    """There are no credentials for an API server, or they cannot be read."""


@dataclass(frozen=True, slots=True)
class _Access:
    """Credentials for an API server.

    Args:
        configuration: address and credentials.
        namespace: the context's, else `default`.
        headers: of every request: the user that the kubeconfig acts as.
    """

    configuration: Configuration
    namespace: str
    headers: Sequence[tuple[str, str]] = ()


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
    access = await _load(str(kubeconfig or ""), None, hint)
    return _client(access.configuration, user_agent, access.headers)


@asynccontextmanager
async def connect_to(target: ClusterTarget) -> AsyncIterator[tuple[KubeClient, str]]:
    """Yield a connection and the namespace to use, by kubectl's order of precedence.

    https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#the-kubeconfig-environment-variable

    Raises:
        KubeconfigError: there are no credentials, or they cannot be read.
    """
    hint = "name a kubeconfig with --kubeconfig or KUBECONFIG, and one of its contexts with --context"
    access = await _load(_kubeconfig(target), target.context, hint)
    async with _client(access.configuration, USER_AGENT, access.headers) as cluster:
        yield cluster, target.namespace or access.namespace


def _client(configuration: Configuration, user_agent: str, headers: Iterable[tuple[str, str]] = ()) -> KubeClient:
    """Return the client of these credentials, whose requests all have these headers."""
    configuration.proxy = configuration.proxy or find_proxy(configuration.host or "", os.environ)
    client = ApiClient(configuration)
    # Both share one configuration: the library replaces an expired token in it.
    limit, configuration.connection_pool_maxsize = configuration.connection_pool_maxsize, 0
    watches = ApiClient(configuration)
    configuration.connection_pool_maxsize = limit
    for each in (client, watches):
        # Else aiohttp looks up the proxy and reads ~/.netrc in a thread, anew for each request, which is a third of its
        # time; and a login found there, which is not the cluster's, would make every request fail.
        each.rest_client.pool_manager._trust_env = False  # noqa: SLF001 - the library offers no parameter
        for name, value in headers:
            each.rest_client.pool_manager.headers.add(name, value)
    client.user_agent = watches.user_agent = user_agent
    return KubeClient(client, watches)


def _kubeconfig(target: ClusterTarget) -> str:
    """Return the path of the kubeconfig: the one that is given, else kubectl's default; empty where there is none."""
    given = str(target.kubeconfig or os.environ.get("KUBECONFIG", ""))
    default = _home() / ".kube" / "config"
    # A context can only come from a kubeconfig: with a context, a missing file is an error.
    return given or (str(default) if target.context or default.is_file() else "")


def _home() -> Path:
    """Return the user's home; the root for a user id without one, such as OpenShift assigns."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


async def _load(file: str, context: str | None, hint: str) -> _Access:
    """Return the credentials of a kubeconfig, or of the pod's service account, and their namespace.

    Args:
        file: path of the kubeconfig; empty for the pod's service account.
        hint: what to do where there are none.
    """
    configuration = Configuration()
    try:
        if not file:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            return _Access(configuration, find_pod_namespace() or "default")
        loader = await config.load_kube_config(file, context, configuration)
        _clean_token(configuration)
        current: dict[str, Any] = loader.current_context or {}
        user: dict[str, Any] = loader._user.value if loader._user else {}  # noqa: SLF001 - it has no public name
        return _Access(
            configuration, current.get("context", {}).get("namespace") or "default", tuple(impersonation(user))
        )
    except Exception as error:  # the loader raises nearly any exception for a file that is broken
        where = f" ({file})" if file else ""
        raise KubeconfigError(f"no access to an API server: {str(error).rstrip('. ')}{where}; {hint}") from error


def _clean_token(configuration: Configuration) -> None:
    """Take line ends off a token: most editors and `echo` put one at the end of a `tokenFile`; kubectl ignores it.

    Raises:
        ValueError: the token has line ends or other such characters inside, which no header may have.
    """
    token = configuration.api_key.get("BearerToken")
    if token is None:
        return
    scheme, _, value = token.partition(" ")
    value = value.strip()
    if not (value.isascii() and value.isprintable()):
        raise ValueError("the user's token has characters that no token has: expected one line of ASCII text")
    configuration.api_key["BearerToken"] = f"{scheme} {value}"
