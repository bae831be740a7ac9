"""The webhook beside what a user would write instead: rates, latencies and CPU for a review of a pod that may run."""

import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.servers import allows, running, write_certificate
from testbed.admission import load, peers
from testbed.admission.load import Load, Server
from testbed.admission.reviews import review
from testbed.cluster.application import FIRST, Application, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.ports import free_ports
from testbed.postgres import Postgres
from testbed.tools.install import InstallError
from testbed.waiting import until

Progress = Callable[[str], None]

ROUNDS, SECONDS = 3, 4
SIZES = (5, 20, 200)
"""Bodies in KB."""
NAMESPACE = "shop"
GATES, IN_NAMESPACE = 1000, 50
"""Gates in the cluster, and how many of them in each namespace."""
TARGETS: Sequence[tuple[str, int, str, float]] = (
    *(("rate, of fixed bytes", size, "fixed bytes", 0.75) for size in SIZES),
    ("rate, of a handler in Go", 5, "Go", 2.0),
    ("rate, of a handler in Go", 20, "Go", 4.0),
    ("rate, of a handler in Go", 200, "Go", 10.0),
    *(("rate, of kopf", size, "kopf", 12.0) for size in SIZES),
)
P99 = 0.6
"""Target: the share of the Go handler's p99, at most."""
WITH_MANY_GATES = 0.9
"""Target: the share of the rate with one gate, at least."""


def measure(plane: ControlPlane, postgres: Postgres, progress: Progress) -> dict[str, Any]:
    """Measure every server with every body, by turns, then ours with many gates."""
    server_cpu, _ = load.cpus()
    with ExitStack() as stack:
        installation = stack.enter_context(Installation(plane))
        directory = Path(stack.enter_context(TemporaryDirectory()))
        plane.create_namespace(NAMESPACE)
        database = postgres.create_database()
        migrate(write_migrations(directory / "migrations", (FIRST,)), database)
        application = Application(plane, NAMESPACE)
        application.opt_in(database)
        bodies = {size: directory / f"{size}.json" for size in SIZES}
        for size, path in bodies.items():
            path.write_bytes(review(NAMESPACE, FIRST, size * 1000))
        ours = Server(installation.pid("webhook"), f"https://127.0.0.1:{installation.webhook_port}/validate")
        idle_mb = load.resident_mb(ours.pid)
        servers = {"ledgergate": ours, **_peers(stack, directory, plane.kubeconfig, progress)}
        for server in servers.values():
            load.pin(server.pid, server_cpu)
            _await_answer(server, bodies[5].read_bytes())
        assert 'reason="Matches"' in installation.metrics("webhook")
        loads = _by_turns(servers, bodies, progress)
        progress(f"{GATES} gates")
        many = _with_many_gates(application, ours, bodies[5])
        return {
            "rounds": ROUNDS,
            "seconds": SECONDS,
            "connections": load.CONNECTIONS,
            "load_average": round(os.getloadavg()[0], 1),
            "servers": {size: {name: asdict(found) for name, found in each.items()} for size, each in loads.items()},
            "figures": list(_figures(loads, many)),
            "resident_mb": {"idle": round(idle_mb, 1), "after": round(load.resident_mb(ours.pid), 1)},
        }


def _by_turns(servers: Mapping[str, Server], bodies: Mapping[int, Path], progress: Progress) -> dict[int, Any]:
    """Return the median of each server's runs; servers take turns, so that a busy moment of the machine meets all."""
    found = {}
    for size, body in bodies.items():
        progress(f"{size} KB")
        runs: dict[str, list[Load]] = {name: [] for name in servers}
        for _ in range(ROUNDS):
            for name, server in servers.items():
                runs[name].append(load.run(server, body, SECONDS))
        found[size] = {name: _median(each) for name, each in runs.items()}
    return found


def _median(runs: Sequence[Load]) -> Load:
    return Load(*(round(statistics.median(values), 2) for values in zip(*(asdict(run).values() for run in runs))))  # noqa: B905 - all have the same fields


def _with_many_gates(application: Application, ours: Server, body: Path) -> tuple[Load, Load]:
    """Return ours with one gate and with many, measured one right after the other."""
    one = _median([load.run(ours, body, SECONDS) for _ in range(ROUNDS)])
    for number in range(GATES // IN_NAMESPACE):
        space = Application(application.plane, NAMESPACE if number == 0 else f"{NAMESPACE}-{number}")
        if number:
            application.plane.api.create("/api/v1/namespaces", {"metadata": {"name": space.namespace}})
        for index in range(1, IN_NAMESPACE):
            space.gate(f"gate-{index}", selector={"matchLabels": {"app": f"other-{index}"}})
    until("a status of the last gate", lambda: space.status(f"gate-{IN_NAMESPACE - 1}").get("state"), timeout=120)
    return one, _median([load.run(ours, body, SECONDS) for _ in range(ROUNDS)])


def _figures(loads: Mapping[int, Mapping[str, Load]], many: tuple[Load, Load]) -> Iterator[dict[str, Any]]:
    """Yield each figure with its ratio, its target and whether it holds; one whose peer is absent is left out."""
    for what, size, peer, target in TARGETS:
        if peer in loads[size]:
            ratio = loads[size]["ledgergate"].rate / loads[size][peer].rate
            yield _figure(f"{what}, {size} KB", ratio, target, holds=ratio >= target)
    for size in SIZES:
        if "Go" in loads[size]:
            ratio = loads[size]["ledgergate"].p99_ms / loads[size]["Go"].p99_ms
            yield _figure(f"p99, of a handler in Go, {size} KB", ratio, P99, holds=ratio <= P99)
    ratio = many[1].rate / many[0].rate
    what = f"rate with {GATES:,} gates, {IN_NAMESPACE} in the namespace, of that with one"
    yield _figure(what, ratio, WITH_MANY_GATES, holds=ratio >= WITH_MANY_GATES)


def _figure(what: str, ratio: float, target: float, *, holds: bool) -> dict[str, Any]:
    return {"figure": what, "ratio": round(ratio, 2), "target": target, "holds": holds}


def _peers(stack: ExitStack, directory: Path, kubeconfig: Path, progress: Progress) -> dict[str, Server]:
    """Start the peers that this machine can have."""
    certificate, key, _ = write_certificate(directory)

    def fixed(port: str) -> list[str | Path]:
        return [sys.executable, "-m", "testbed.admission.fixed", port, certificate, key]

    def go(port: str) -> list[str | Path]:
        return [peers.handler(progress), f"127.0.0.1:{port}", certificate, key]

    def kopf(_: str) -> list[str | Path]:
        return [peers.kopf(progress), "-m", "kopf", "run", "--standalone", "--namespace=default", peers.KOPF]

    found = {}
    pinned = ["taskset", "-c", str(load.cpus()[0])]  # from its start, so that Go's runtime counts one CPU too
    programs = {"fixed bytes": fixed, "Go": go, "kopf": kopf}
    for (name, command), port in zip(programs.items(), free_ports(3), strict=True):
        addresses = {"PORT": str(port), "CERTIFICATE": str(certificate), "KEY": str(key), "KUBECONFIG": str(kubeconfig)}
        try:
            pid = stack.enter_context(running([*pinned, *command(str(port))], addresses, directory / name))
        except InstallError as reason:
            progress(f"{name} is left out: {reason}")
        else:
            found[name] = Server(pid, f"https://127.0.0.1:{port}/validate")
    return found


def _await_answer(server: Server, body: bytes) -> None:
    until(f"an answer of {server.url}", lambda: allows(server.url, body), timeout=60)
