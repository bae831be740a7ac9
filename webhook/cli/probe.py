"""`ledgergate probe`: whether the API server reaches the webhook. `helm test` runs it."""

import asyncio
import time
from typing import Any

import click
import msgspec

from migrations.cli.conventions import Exit, Seconds, flag
from webhook.api.objects import SCHEDULING_GATE, Pod
from webhook.cli.options import cluster_command, report_failure
from webhook.core.requirement import MIGRATES
from webhook.kube.client import KubeClient
from webhook.kube.errors import ClusterError
from webhook.kube.kubeconfig import ClusterTarget, connect_to

PAUSE = 0.5
"""Seconds between two tries."""


@cluster_command("ledgergate probe -n ledgergate-test")
@flag(
    "--timeout",
    "How long to try, 10m at most: after an installation, for example, until the webhook is ready.",
    type=Seconds(maximum=600),
    default="30s",
    show_default=True,
    metavar="DURATION",
)
async def probe(target: ClusterTarget, *, timeout: float) -> int:  # noqa: ASYNC109 - the flag is called so
    """Show that the API server reaches ledgergate's webhook, by server-side dry runs: nothing is created.

    The namespace must have opted in (label ledgergate.dev/admission: enabled). A firewall between API server and pods,
    or a missing caBundle, is found before the first pod is held or denied for it. Needs the right to create pods there.
    Exits 1 with the reason when the webhook is not reached in time.
    """
    deadline = time.monotonic() + timeout
    async with connect_to(target) as (cluster, namespace):
        while problem := await _find_problem(cluster, namespace):
            if time.monotonic() > deadline:
                return report_failure(f"namespace {namespace}: {problem}", Exit.FAILED)
            await asyncio.sleep(PAUSE)
    click.echo("the API server reaches ledgergate's webhook")
    return Exit.DONE


async def _find_problem(cluster: KubeClient, namespace: str) -> str:
    """Return why the API server does not reach the webhooks that decide about pods; empty if it does."""
    try:
        free = await _dry_run(cluster, namespace, {})
        # It has a node, so the policy leaves it alone, and only the webhook that fails closed can admit it.
        await _dry_run(cluster, namespace, {"nodeName": "ledgergate-probe"})
    except ClusterError as error:
        return f"a pod cannot be created: {error}"
    if free.gate_index is not None:
        return (
            f"a pod that no LedgerGate selects has scheduling gate {SCHEDULING_GATE}: the API server does not reach "
            "webhook hold.ledgergate.dev"
        )
    return ""


async def _dry_run(cluster: KubeClient, namespace: str, spec: dict[str, Any]) -> Pod:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        # A migrator waits for no LedgerGate, whatever the namespace's labels are.
        "metadata": {"generateName": "ledgergate-probe-", "annotations": {MIGRATES: "ledgergate-probe"}},
        "spec": {"containers": [{"name": "probe", "image": "probe"}], **spec},
    }
    path = f"/api/v1/namespaces/{namespace}/pods"
    return msgspec.json.decode(await cluster.request("POST", path, query={"dryRun": "All"}, body=body), type=Pod)
