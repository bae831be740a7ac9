"""Admission needs nothing but the LedgerGates: without database and controller it decides by their statuses."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from testbed.cluster.application import FIRST, SECOND, THIRD, Application, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.cluster.pod_watch import PodWatch
from testbed.postgres import Postgres
from testbed.waiting import until

LEASE_DEAD_TIMEOUT = 40.0
"""Seconds: 15 until a leader counts as dead, and the next list of the Lease."""


@pytest.fixture
def alone(
    application: Application, installation: Installation, own_postgres: Postgres, tmp_path: Path
) -> Iterator[Application]:
    """An application whose ledger was read at its second migration; then database and controller were ended."""
    database = own_postgres.create_database()
    migrate(write_migrations(tmp_path / "migrations"), database, "--to", SECOND)
    application.opt_in(database)
    until("the status", lambda: application.status().get("head") == SECOND)
    own_postgres.stop("immediate")
    installation.kill("controller")
    yield application
    installation.ensure()


def reason(application: Application, installation: Installation, revision: str) -> str:
    """Return the reason of the verdict on a pod, by a dry run: the counter that it moves."""

    def counted() -> dict[str, float]:
        begin = 'ledgergate_admission_requests_total{outcome="dry-run"'
        lines = [line for line in installation.metrics("webhook").splitlines() if line.startswith(begin)]
        return {line.split('reason="')[1].split('"')[0]: float(line.split()[-1]) for line in lines if "hold." in line}

    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "dry-run",
            "labels": {"guarded": "true"},
            "annotations": {"ledgergate.dev/revision": revision},
        },
        "spec": {"containers": [{"name": "c", "image": "none"}]},
    }
    before = counted()
    namespace = application.namespace
    application.plane.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", stdin=yaml.safe_dump(pod))
    moved = [name for name, count in counted().items() if count > before.get(name, 0)]
    return ",".join(moved)


def test_known_revisions_start_and_others_are_held(
    alone: Application, installation: Installation, own_postgres: Postgres
) -> None:
    """Admission goes by the last status; after the leader's Lease has ended by onUnreachable, until a new one reads."""
    with PodWatch(alone.plane, alone.namespace) as watch:
        alone.deploy("known", SECOND)
        alone.await_running("known")
        alone.deploy("older", FIRST)
        alone.await_running("older")
        alone.deploy("unknown", THIRD)
        alone.await_held("unknown")
        assert reason(alone, installation, THIRD) == "Behind"
        until("a dead Lease", lambda: reason(alone, installation, THIRD) == "Unreachable", timeout=LEASE_DEAD_TIMEOUT)
        alone.deploy("known-later", SECOND)
        alone.await_running("known-later")
        alone.deploy("unknown-later", THIRD)
        alone.await_held("unknown-later")
        held = {sight.labels["app"] for sight in watch.sights if sight.gated}
        assert held == {"unknown", "unknown-later"}, "a pod waited for a controller"
    alone.gate(onUnreachable="Allow")
    alone.deploy("allowed", THIRD)
    alone.await_running("allowed")
    installation.start_controller()
    until("a leader that cannot read", lambda: alone.status()["state"] == "Unreachable")
    own_postgres.start()
    alone.gate()  # no pod waits for the ledger: an edit of the gate has it read at once
    until("a reading", lambda: reason(alone, installation, THIRD) == "Behind")


def test_the_webhook_has_no_socket_but_the_api_servers(alone: Application, installation: Installation) -> None:
    """Its connections lead to the API server, or come in on its own ports; no driver is mapped into its memory."""
    process = psutil.Process(installation.pid("webhook"))
    ports = installation.webhook_ports
    server = alone.plane.api_port
    sockets = process.net_connections(kind="inet")
    foreign = [each for each in sockets if each.laddr.port not in ports and getattr(each.raddr, "port", None) != server]
    assert sockets
    assert foreign == []
    mapped = [each.path for each in process.memory_maps() if "asyncpg" in each.path or "pglast" in each.path]
    assert mapped == []
