"""The rate at which a client that does nothing else takes a scheduling gate off pods: the limit for any release."""

import asyncio
import time
from pathlib import Path
from typing import Any

from testbed.controlplane import ControlPlane
from webhook.kube.kubeconfig import connect

AT_A_TIME = 16
GATE = "example.com/bench"
_PATCH = [{"op": "remove", "path": "/spec/schedulingGates"}]


def patch_rate(plane: ControlPlane, pods: int) -> float:
    """Create pods with a scheduling gate, take it off each by one JSON patch, and return the patches per second."""
    namespace = f"bare-{pods}"
    plane.create_namespace(namespace)
    return asyncio.run(_patch_rate(plane.kubeconfig, namespace, pods))


async def _patch_rate(kubeconfig: Path, namespace: str, pods: int) -> float:
    async with await connect(kubeconfig, "bench") as cluster:
        path = f"/api/v1/namespaces/{namespace}/pods"

        async def run(method: str) -> float:
            numbers, began = iter(range(pods)), time.monotonic()

            async def work() -> None:
                for number in numbers:
                    if method == "POST":
                        await cluster.request("POST", path, body=_pod(number))
                    else:
                        await cluster.request("PATCH", f"{path}/pod-{number}", body=_PATCH, content="json-patch")

            async with asyncio.TaskGroup() as group:
                for _ in range(AT_A_TIME):
                    group.create_task(work())
            return time.monotonic() - began

        await run("POST")
        return pods / await run("PATCH")


def _pod(number: int) -> dict[str, Any]:
    container = {"name": "app", "image": "registry.example.com/team/app:v1"}
    spec = {"schedulingGates": [{"name": GATE}], "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"}, "spec": spec}
