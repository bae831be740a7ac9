"""A thousand LedgerGates in five hundred namespaces, on 250 databases of one server: what the controller costs them."""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import yaml

from bench.release import summary
from testbed.cluster.application import FIRST, Application, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.cluster.pod_watch import PodWatch
from testbed.controlplane import ControlPlane
from testbed.ledger_times import last_commit
from testbed.postgres import Postgres
from testbed.waiting import until

NAMESPACES, GATES, DATABASES = 500, 2, 250
MAX_CONNECTIONS = "200"
RELEASES = 10
SETTLE_SECONDS = 100
"""From the start until each database was looked at again, and the worker that reads newcomers has ended."""
REST_SECONDS = 120
OURS = "select count(*) from pg_stat_activity where application_name like 'ledgergate %'"
RIGHTS = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "bench-secrets"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "ServiceAccount", "name": "controller", "namespace": "ledgergate"}],
}


def measure(plane: ControlPlane, postgres: Postgres, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measure start, rest, releases and a restart of the leader. Seconds, bytes and sessions are in the names.

    Args:
        postgres: with :data:`MAX_CONNECTIONS`.
    """
    progress(f"creating {DATABASES} databases")
    with ThreadPoolExecutor(2) as pool:
        urls = list(pool.map(lambda _: postgres.create_database(), range(DATABASES)))
    with Installation(plane) as installation, TemporaryDirectory() as directory:
        for part in ("webhook", "controller"):  # without the webhook the API server itself holds pods
            installation.kill(part)
        progress(f"creating {NAMESPACES * GATES} LedgerGates")
        plane.apply(yaml.safe_dump(RIGHTS))
        for first in range(0, NAMESPACES, 50):
            documents = [
                found
                for number in range(first, first + 50)
                for found in _tenant(f"bench-{number}", urls[number % DATABASES])
            ]
            plane.apply(yaml.safe_dump_all(documents))
        watch = _SessionWatch(postgres.url())
        progress("starting the controller")
        cold = _start(installation, plane)
        most = watch.most
        progress("at rest")
        time.sleep(SETTLE_SECONDS)
        watch.reset()
        at_rest = _rest(installation)
        at_rest |= {"most_sessions": watch.most, "mean_sessions": round(watch.mean, 2)}
        progress("releases")
        delays = _releases(plane, urls, Path(directory))
        progress("restarting the controller")
        installation.kill("controller")
        again = _start(installation, plane)
        watch.stop()
    return {
        "gates": NAMESPACES * GATES,
        "cold_start_s": round(cold, 1),
        "most_sessions_while_starting": most,
        "rest": at_rest,
        "release": summary(delays),
        "restart_s": round(again, 1),
        "refused_connections": watch.refused,
    }


def _tenant(namespace: str, url: str) -> list[dict[str, Any]]:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pg"}, "stringData": {"url": url}}
    gates = [
        {
            "apiVersion": "ledgergate.dev/v1alpha1",
            "kind": "LedgerGate",
            "metadata": {"name": "app" if number == 0 else f"app-{number}"},
            "spec": {
                "selector": {"matchLabels": {"part-of": "app" if number == 0 else f"app-{number}"}},
                "database": {"secretRef": {"name": "pg"}},
                "ledger": {"dialect": "ledgergate", "table": f"ledger_{number}"}
                if number
                else {"dialect": "ledgergate"},
            },
        }
        for number in range(GATES)
    ]
    labels = {"ledgergate.dev/admission": "enabled"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    for found in (secret, *gates):
        found["metadata"]["namespace"] = namespace  # type: ignore[index]
    return [space, secret, *gates]


def _start(installation: Installation, plane: ControlPlane) -> float:
    """Start the controller; return the seconds until every gate was read since."""
    began = time.time()
    installation.start_controller()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began))

    def all_read() -> bool:
        gates = plane.api.get("/apis/ledgergate.dev/v1alpha1/ledgergates")["items"]
        read = [gate for gate in gates if gate.get("status", {}).get("observedAt", "") >= stamp]
        return len(read) == NAMESPACES * GATES

    until("a status of every gate", all_read, timeout=600, pause=0.5)
    return time.time() - began


def _releases(plane: ControlPlane, urls: list[str], directory: Path) -> list[float]:
    migrations = write_migrations(directory, (FIRST,))
    delays = []
    for number in range(RELEASES):
        application, url = Application(plane, f"bench-{number}"), urls[number % DATABASES]
        with PodWatch(plane, application.namespace) as watch:
            application.deploy("web", FIRST, labels={"part-of": "app"}, replicas=1)
            application.await_held("web", 1)
            migrate(migrations, url)
            application.await_running("web", 1)
            released = min(sight.at for sight in watch.sights if not sight.gated)
        delays.append(released - last_commit(url))
    return delays


def _rest(installation: Installation) -> dict[str, Any]:
    """Measure what the controller uses while nothing happens: CPU time as a share of one core, memory as Pss."""
    leader, _ = _processes(installation)
    before = _cpu_seconds(leader), _workers_cpu_seconds(installation)
    began = time.monotonic()
    time.sleep(REST_SECONDS)
    after = _cpu_seconds(leader), _workers_cpu_seconds(installation)
    seconds = time.monotonic() - began
    leader, workers = _processes(installation)
    return {
        "leader_cpu_share": round((after[0] - before[0]) / seconds, 4),
        "workers_cpu_share": round((after[1] - before[1]) / seconds, 4),
        "leader_mb": round(_proportional_mb([leader])),
        "workers_mb": [round(_proportional_mb([each])) for each in workers],
    }


def _processes(installation: Installation) -> tuple[Path, list[Path]]:
    """Return the leader's process and those of its workers, in /proc."""
    leader = installation.pid("controller")
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text(encoding="ascii").split()
    return Path(f"/proc/{leader}"), [Path(f"/proc/{pid}") for pid in children]


def _workers_cpu_seconds(installation: Installation) -> float:
    """Return the CPU seconds of all workers there have been: what has ended counts as its parent's children."""
    leader, workers = _processes(installation)
    return _cpu_seconds(leader, of_children=True) + sum(map(_cpu_seconds, workers))


def _cpu_seconds(process: Path, *, of_children: bool = False) -> float:
    """Return the CPU seconds of a process, or of its children that have ended (utime to cstime, proc(5))."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    first = 13 if of_children else 11
    return sum(map(int, fields[first : first + 2])) / os.sysconf("SC_CLK_TCK")


def _proportional_mb(processes: list[Path]) -> float:
    """Return the memory of processes, in which a page that several share counts once (Pss, proc(5))."""
    lines = [line.split() for each in processes for line in (each / "smaps_rollup").read_text().splitlines()[1:]]
    return sum(int(line[1]) for line in lines if line[0] == "Pss:") / 1024


class _SessionWatch:
    """Counts our sessions on a server all the time, by new connections, each of which must be accepted."""

    def __init__(self, url: str) -> None:
        self.most = self.refused = 0
        self._sum = self._count = 0
        self._stopped = False
        self._thread = ThreadPoolExecutor(1)
        self._done = self._thread.submit(lambda: asyncio.run(self._run(url)))

    @property
    def mean(self) -> float:
        """Sessions on average."""
        return self._sum / max(1, self._count)

    def reset(self) -> None:
        """Begin to count anew."""
        self.most = self._sum = self._count = 0

    def stop(self) -> None:
        """Stop counting."""
        self._stopped = True
        self._done.result()
        self._thread.shutdown()

    async def _run(self, url: str) -> None:
        while not self._stopped:
            try:
                connection = await asyncpg.connect(url)
            except asyncpg.TooManyConnectionsError:
                self.refused += 1
                continue
            for _ in range(20):
                found = await connection.fetchval(OURS)
                self.most, self._sum, self._count = max(self.most, found), self._sum + found, self._count + 1
                await asyncio.sleep(0.05)
            await connection.close()
