"""Memory of the webhook, the controller and its reader processes, and of a controller that starts among many pods."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from testbed.admission.load import resident_mb
from testbed.cluster.application import FIRST, Application, migrate, write_migrations
from testbed.cluster.installation import ROOT, Installation
from testbed.controlplane import ControlPlane
from testbed.postgres import Postgres
from testbed.waiting import until
from webhook.kube.kubeconfig import connect

PODS, POD_BYTES = 10_000, 11_000
REPLICAS = 100
"""Pods with the same environment, as those of one ReplicaSet."""
AT_A_TIME = 8
"""Pods that are being created at a time."""
STEADY_SECONDS = 5.0
"""For which a peak has to stay the peak."""
TARGETS_MB = {"webhook": 55, "controller": 60, "worker": 40, "peak": 150}
READY_SECONDS = 0.35
HEADROOM = 1.5
"""The chart's limit of memory, as a multiple of the peak."""
NAMESPACE, CROWD = "shop", "crowd"
MANIFEST = ROOT / "manifests/chart/files/base/controller.yaml"


def measure(
    plane: ControlPlane, postgres: Postgres, progress: Callable[[str], None], pods: int = PODS
) -> dict[str, Any]:
    """Measure resident memory in MB, idle and at the start among `pods` labelled pods, and the webhook's start."""
    with Installation(plane) as installation, TemporaryDirectory() as directory:
        plane.create_namespace(NAMESPACE)
        database = postgres.create_database()
        migrate(write_migrations(Path(directory), (FIRST,)), database)
        application = Application(plane, NAMESPACE)
        application.opt_in(database)
        until("a status", lambda: application.status().get("state"), timeout=60)
        ready = _ready_seconds(installation)
        controller = installation.pid("controller")
        found = {
            "webhook": resident_mb(installation.pid("webhook")),
            "controller": resident_mb(controller),
            "worker": max((resident_mb(pid) for pid in _children(controller)), default=0.0),
        }
        progress(f"creating {pods:,} pods")
        plane.create_namespace(CROWD)
        asyncio.run(_create(plane.kubeconfig, pods))
        progress("starting the controller")
        installation.kill("controller")
        installation.start_controller()
        until("a leader", lambda: "ledgergate_leader 1.0" in installation.metrics("controller"), timeout=60)
        found["peak"] = _steady_peak_mb(installation.pid("controller"))
    limit = _limit_mb()
    return {
        "pods": pods,
        "load_average": round(os.getloadavg()[0], 1),
        "resident_mb": {name: round(mb, 1) for name, mb in found.items()},
        "webhook_ready_s": round(ready, 2),
        "limit_mb": limit,
        "figures": list(_figures(found, ready, limit)),
    }


def _figures(found: Mapping[str, float], ready: float, limit: int) -> Iterator[dict[str, Any]]:
    """Yield each figure as its share of the target: at most 1 holds."""
    for name, mb in found.items():
        what = "controller at its start among the pods, at most" if name == "peak" else f"{name}, idle"
        yield _figure(f"MB, {what}", mb, TARGETS_MB[name])
    yield _figure("seconds until the webhook is ready", ready, READY_SECONDS)
    yield _figure("peak, of the chart's limit", found["peak"], limit / HEADROOM)


def _figure(what: str, value: float, target: float) -> dict[str, Any]:
    return {"figure": what, "ratio": round(value / target, 2), "target": 1, "holds": value <= target}


def _ready_seconds(installation: Installation) -> float:
    installation.kill("webhook")
    began = time.monotonic()
    installation.start_webhook()
    return time.monotonic() - began


async def _create(kubeconfig: Path, pods: int) -> None:
    """Create pods that have the label, and that nothing releases: they wait for a scheduling gate of their own."""
    numbers = iter(range(pods))
    async with await connect(kubeconfig, "bench") as cluster:

        async def create() -> None:
            for number in numbers:
                await cluster.request("POST", f"/api/v1/namespaces/{CROWD}/pods", body=_pod(number))

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_A_TIME):
                group.create_task(create())


def _pod(number: int) -> dict[str, Any]:
    owner = number // REPLICAS
    env = [
        {"name": f"SETTING_{index}", "value": f"{owner}-{index}-".ljust(60, "x")} for index in range(POD_BYTES // 100)
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{number}", "labels": {"app": "crowd", "ledgergate.dev/gated": "true"}},
        "spec": {
            "schedulingGates": [{"name": "example.com/bench"}],
            "containers": [{"name": "app", "image": "registry.example.com/team/app:v1", "env": env}],
        },
    }


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _steady_peak_mb(pid: int) -> float:
    """Return the most memory that a process had (VmHWM, proc(5)), once that has not changed for some seconds."""
    seen: list[tuple[float, float]] = []

    def steady() -> bool:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
        if not seen or seen[-1][0] != peak:
            seen.append((peak, time.monotonic()))
        return time.monotonic() - seen[-1][1] >= STEADY_SECONDS

    until("the peak of the controller's memory", steady, timeout=300, pause=0.2)
    return seen[-1][0]


def _limit_mb() -> int:
    """Return the memory limit of the controller's container, in MB."""
    for found in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")):
        if found and found["kind"] == "Deployment":
            (container,) = found["spec"]["template"]["spec"]["containers"]
            return int(container["resources"]["limits"]["memory"].removesuffix("Mi"))
    raise AssertionError(f"no Deployment in {MANIFEST}")
