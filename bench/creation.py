"""How long the API server takes to create a pod: with ledgergate, without, and beside a webhook in kopf, by turns.

Pods are sent at a rate, whether the one before is answered or not, and each counts from the moment at which it was to
be sent. So an answer that comes late delays no other, and no waiting is left out.
"""

import asyncio
import base64
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.servers import allows, running, write_certificate
from testbed.admission import peers
from testbed.admission.reviews import review
from testbed.cluster.application import FIRST, REVISION, Application, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.ports import free_ports
from testbed.postgres import Postgres
from testbed.tools.install import InstallError
from testbed.waiting import until
from webhook.kube.client import KubeClient
from webhook.kube.kubeconfig import connect

Progress = Callable[[str], None]

RATES = (100, 300)
"""Pods a second."""
SECONDS = 8
ROUNDS = 5
WITHOUT, GUARDED, KOPF = "alone", "with-ledgergate", "with-kopf"
"""Namespaces, each by what is asked about its pods."""
PEER = "peer.example.com"
"""The webhook in kopf."""
MEDIAN_ADDED, P99_ADDED = 2.0, 5.0
"""Milliseconds that ledgergate may add."""

Times = dict[int, dict[str, list[float]]]
"""Seconds of each creation, by rate and namespace."""


def measure(plane: ControlPlane, postgres: Postgres, progress: Progress) -> dict[str, Any]:
    """Measure every namespace at every rate, by turns."""
    with ExitStack() as stack:
        installation = stack.enter_context(Installation(plane))
        directory = Path(stack.enter_context(TemporaryDirectory()))
        plane.create_namespace(WITHOUT)
        plane.create_namespace(GUARDED)
        database = postgres.create_database()
        migrate(write_migrations(directory / "migrations", (FIRST,)), database)
        application = Application(plane, GUARDED)
        application.opt_in(database)
        until("the ledger to be read", lambda: application.status().get("head") == FIRST)
        namespaces = [WITHOUT, GUARDED]
        try:
            _start_kopf(stack, plane, directory, progress)
            namespaces.append(KOPF)
        except InstallError as reason:
            progress(f"{KOPF} is left out: {reason}")
        times = asyncio.run(_by_turns(plane.kubeconfig, namespaces, progress))
        asked = plane.kubectl("get", "--raw", "/metrics")
        assert 'reason="Matches"' in installation.metrics("webhook")
        assert KOPF not in namespaces or f'name="{PEER}"' in asked
    return {
        "rounds": ROUNDS,
        "seconds": SECONDS,
        "load_average": round(os.getloadavg()[0], 1),
        "creations": {rate: {name: _summary(found) for name, found in each.items()} for rate, each in times.items()},
        "figures": list(_figures(times)),
    }


def _start_kopf(stack: ExitStack, plane: ControlPlane, directory: Path, progress: Progress) -> None:
    """Start the webhook in kopf, and let the API server ask it about the pods of its namespace."""
    certificate, key, authority = write_certificate(directory)
    (port,) = free_ports(1)
    addresses = {
        "PORT": str(port),
        "CERTIFICATE": str(certificate),
        "KEY": str(key),
        "KUBECONFIG": str(plane.kubeconfig),
    }
    command: list[str | Path] = [
        peers.kopf(progress),
        "-m",
        "kopf",
        "run",
        "--standalone",
        "--namespace=default",
        peers.KOPF,
    ]
    stack.enter_context(running(command, addresses, directory / "kopf.log"))
    url = f"https://127.0.0.1:{port}/validate"
    until("an answer of kopf", lambda: allows(url, review(KOPF, FIRST, 5000)), timeout=60)
    plane.create_namespace(KOPF)
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    webhook = {
        "name": PEER,
        "clientConfig": {"url": url, "caBundle": base64.b64encode(authority).decode()},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": KOPF}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    plane.api.create(path, {"metadata": {"name": "peer"}, "webhooks": [webhook]})
    stack.callback(plane.api.delete, f"{path}/peer")


async def _by_turns(kubeconfig: Path, namespaces: Sequence[str], progress: Progress) -> Times:
    times: Times = {rate: {name: [] for name in namespaces} for rate in RATES}
    async with await connect(kubeconfig, "bench") as cluster:
        for name in namespaces:  # once without measuring: connections open, caches fill
            await _create(cluster, name, RATES[0])
        for turn in range(ROUNDS):
            for rate in RATES:
                progress(f"round {turn + 1} of {ROUNDS}, {rate} pods a second")
                first = turn % len(namespaces)
                for name in (*namespaces[first:], *namespaces[:first]):
                    times[rate][name] += await _create(cluster, name, rate)
    return times


async def _create(cluster: KubeClient, namespace: str, rate: int) -> list[float]:
    """Create pods at a rate, and delete them; return the seconds of each creation."""
    path, count = f"/api/v1/namespaces/{namespace}/pods", rate * SECONDS
    bodies = [_pod(f"pod-{number}") for number in range(count)]
    began, seconds = time.monotonic() + 0.1, [0.0] * count

    async def send(number: int) -> None:
        due = began + number / rate
        await cluster.request("POST", path, body=bodies[number])
        seconds[number] = time.monotonic() - due

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            group.create_task(send(number))
    await cluster.request("DELETE", path, query={"gracePeriodSeconds": "0"})
    return seconds


def _pod(name: str) -> dict[str, Any]:
    """Return a pod that the guard lets go, and that no scheduler looks at."""
    metadata = {"name": name, "labels": {"guarded": "true"}, "annotations": {REVISION: FIRST}}
    container = {"name": "app", "image": "registry.example.com/team/app:v1"}
    spec = {"schedulerName": "none", "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    return {"median_ms": round(_median(seconds), 2), "p99_ms": round(_p99(seconds), 2), "count": len(seconds)}


def _median(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1000


def _p99(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98] * 1000


def _figures(times: Mapping[int, Mapping[str, Sequence[float]]]) -> Iterator[dict[str, Any]]:
    for rate, found in times.items():
        for name in found:
            if name == WITHOUT:
                continue
            for what, measured, target in (("median", _median, MEDIAN_ADDED), ("p99", _p99, P99_ADDED)):
                added, words = measured(found[name]) - measured(found[WITHOUT]), name.replace("-", " ")
                yield {
                    "figure": f"ms more in the {what} {words}, {rate} pods a second",
                    "ratio": round(added, 2),
                    "target": target,
                    "holds": added <= target,
                }
