"""Readiness by the ledger: the pod's condition, kept on a real API server."""

import json
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster.application import FIRST, THIRD, Application, migrate, write_migrations
from testbed.postgres import Postgres
from testbed.waiting import until

CONDITION = "ledgergate.dev/app"
LATE_GATE = 25.0
"""Seconds in which a pod is seen not to wait for a gate that is no more (10, and what a busy machine adds)."""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    return write_migrations(tmp_path / "migrations")


def conditions(application: Application, name: str) -> list[dict[str, Any]]:
    """Our condition on each pod of a Deployment that has one."""
    found = [condition for pod in application.pods(name) for condition in pod["status"].get("conditions", ())]
    return [condition for condition in found if condition["type"] == CONDITION]


def await_condition(application: Application, name: str, status: str, *, pods: int = 3, timeout: float = 30) -> str:
    """Wait until the readiness condition of every pod has a status; return its reason."""

    def probe() -> bool:
        return [found["status"] for found in conditions(application, name)] == [status] * pods

    until(f"{CONDITION}={status} on {pods} pods of {name}", probe, timeout=timeout)
    (reason,) = {found["reason"] for found in conditions(application, name)}
    return str(reason)


def resource_versions(application: Application, name: str) -> set[str]:
    """The versions of the pods' conditions: when each was last changed."""
    return {json.dumps(found, sort_keys=True) for found in conditions(application, name)}


def test_live_readiness_follows_the_ledger(application: Application, database: str, migrations: Path) -> None:
    """Pods that started with their revision are ready; when it is undone they are not; when it is back they are."""
    migrate(migrations, database)
    application.opt_in(database, readiness="Live")
    application.deploy("gateway", THIRD)
    assert await_condition(application, "gateway", "True") == "Matches"
    application.plane.kubectl(
        *("wait", "pods", "-l", "app=gateway", "-n", application.namespace),
        *(f"--for=condition={CONDITION}", "--timeout=50s"),
    )
    migrate(migrations, database, "--to", FIRST, command="down")
    assert await_condition(application, "gateway", "False") == "Behind"
    assert "the pod expects" in conditions(application, "gateway")[0]["message"]
    migrate(migrations, database)
    await_condition(application, "gateway", "True")


def test_live_readiness_outlives_the_database(
    application: Application, own_postgres: Postgres, migrations: Path
) -> None:
    """A database that is down takes no pod out of its Service, and neither does one that comes back."""
    database = own_postgres.create_database()
    migrate(migrations, database)
    application.opt_in(database, readiness="Live")
    application.deploy("gateway", THIRD)
    await_condition(application, "gateway", "True")
    before = resource_versions(application, "gateway")
    own_postgres.stop("immediate")
    until("the gate to notice", lambda: application.status()["state"] == "Unreachable")
    assert resource_versions(application, "gateway") == before
    own_postgres.start()
    until("the gate to notice", lambda: application.status()["state"] == "Live")
    assert resource_versions(application, "gateway") == before


def test_latched_readiness_never_goes_back(application: Application, database: str, migrations: Path) -> None:
    """Pods that were let go behind their ledger become ready with it, and stay so when it is undone."""
    application.opt_in(database, readiness="Latch", onUndeclared="Allow")
    application.deploy("gateway", THIRD)
    application.await_held("gateway")
    migrate(migrations, database)
    application.await_running("gateway")
    await_condition(application, "gateway", "True")
    before = resource_versions(application, "gateway")
    migrate(migrations, database, "--to", FIRST, command="down")
    until("the gate to notice", lambda: application.status()["head"] == FIRST)
    assert resource_versions(application, "gateway") == before


def test_readiness_waits_for_nothing_that_is_gone(application: Application, database: str, migrations: Path) -> None:
    """A gate that is deleted, or asks for no readiness any more, keeps no pod out of its Service."""
    migrate(migrations, database)
    application.opt_in(database, readiness="Live")
    application.deploy("gateway", THIRD)
    await_condition(application, "gateway", "True")
    migrate(migrations, database, "--to", FIRST, command="down")
    await_condition(application, "gateway", "False")
    application.gate(readiness="Off")
    assert await_condition(application, "gateway", "True", timeout=LATE_GATE) == "Unguarded"
