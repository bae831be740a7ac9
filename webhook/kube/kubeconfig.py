"""Find the API server that a person, or a Job of a chart, means: as kubectl finds it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration

from webhook.kube.client import KubeClient

USER_AGENT = "ledgergate-cli"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_HINT = "name a kubeconfig with --kubeconfig or KUBECONFIG, and one of its contexts with --context"


class KubeconfigError(Exception):
    """No API server can be addressed: no kubeconfig, or one that cannot be read."""


@dataclass(frozen=True, slots=True)
class ClusterTarget:
    """Which cluster, and where in it.

    Args:
        kubeconfig: a file; None for `KUBECONFIG`, then `~/.kube/config`, then the pod's own service account.
        context: a context of the kubeconfig; None for its current one.
        namespace: None for the context's, else `default`.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None


async def connect(kubeconfig: Path | None, user_agent: str) -> KubeClient:
    """Connect with the credentials of a kubeconfig, else with those of the pod's service account.

    Raises:
        KubeconfigError: there are none, or they cannot be read.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    except Exception as error:  # a broken file breaks the loader in as many ways as there are
        hint = "not in a pod? name a kubeconfig with --kubeconfig" if kubeconfig is None else str(kubeconfig)
        raise KubeconfigError(f"no way to an API server: {error} ({hint})") from error
    return _client(configuration, user_agent)


def _client(configuration: Configuration, user_agent: str) -> KubeClient:
    client = ApiClient(configuration)
    client.user_agent = user_agent
    return KubeClient(client)


@asynccontextmanager
async def connect_to(target: ClusterTarget) -> AsyncIterator[tuple[KubeClient, str]]:
    """Give a connection, and the namespace that is meant.

    The order is kubectl's
    (https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#the-kubeconfig-environment-variable).

    Raises:
        KubeconfigError: no API server can be addressed.
    """
    configuration = Configuration()
    default, file = "default", _kubeconfig(target)
    try:
        if file:
            loader = await config.load_kube_config(file, target.context, configuration)
            current: dict[str, Any] = loader.current_context or {}
            default = current.get("context", {}).get("namespace") or default
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            default = _POD_NAMESPACE.read_text().strip()  # noqa: ASYNC240 - a few bytes, before there is any concurrency
    except Exception as error:  # a broken file breaks the loader in as many ways as there are
        where = f" ({file})" if file else ""
        raise KubeconfigError(f"no way to an API server: {str(error).rstrip('. ')}{where}; {_HINT}") from error
    async with _client(configuration, USER_AGENT) as cluster:
        yield cluster, target.namespace or default


def _kubeconfig(target: ClusterTarget) -> str:
    """Name the kubeconfig: what is given, else what lies where kubectl looks; empty where none does."""
    given = str(target.kubeconfig or os.environ.get("KUBECONFIG", ""))
    usual = Path.home() / ".kube" / "config"
    # A context that is asked for is one of a kubeconfig, so that a missing file is told, not passed over.
    return given or (str(usual) if target.context or usual.is_file() else "")
