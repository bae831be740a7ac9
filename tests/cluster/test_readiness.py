"""Readiness by the ledger: the pod's condition, kept on a real API server."""

import json
from pathlib import Path
from typing import Any

from testbed.cluster.application import FIRST, THIRD, Application, migrate
from testbed.postgres import Postgres
from testbed.waiting import until

CONDITION = "ledgergate.dev/app"
LATE_GATE = 25.0
"""Seconds until a pod no longer waits for a gate that is gone: 10, and what a busy machine adds."""


def conditions(application: Application, name: str) -> list[dict[str, Any]]:
    """Return ledgergate's condition on each pod of a Deployment that has one."""
    found = [condition for pod in application.pods(name) for condition in pod["status"].get("conditions", ())]
    return [condition for condition in found if condition["type"] == CONDITION]


def await_condition(application: Application, name: str, status: str, *, pods: int = 3, timeout: float = 120) -> str:
    """Wait until the readiness condition of every pod has a status; return its reason."""

    def probe() -> bool:
        return [found["status"] for found in conditions(application, name)] == [status] * pods

    until(f"{CONDITION}={status} on {pods} pods of {name}", probe, timeout=timeout)
    (reason,) = {found["reason"] for found in conditions(application, name)}
    return str(reason)


def condition_texts(application: Application, name: str) -> set[str]:
    """Return the pods' conditions as texts; each change, of its time alone too, makes another text."""
    return {json.dumps(found, sort_keys=True) for found in conditions(application, name)}


def test_live_readiness_follows_the_ledger(application: Application, database: str, migrations: Path) -> None:
    """Pods are ready while the ledger has their revision, not ready once it is undone, and ready when it is back."""
    migrate(migrations, database)
    application.opt_in(database, readiness="Live")
    application.deploy("gateway", THIRD)
    assert await_condition(application, "gateway", "True") == "Matches"
    application.plane.kubectl(
        *("wait", "pods", "-l", "app=gateway", "-n", application.namespace),
        *(f"--for=condition={CONDITION}", "--timeout=120s"),
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
    before = condition_texts(application, "gateway")
    own_postgres.stop("immediate")
    until("the gate to notice", lambda: application.status()["state"] == "Unreachable")
    assert condition_texts(application, "gateway") == before
    own_postgres.start()
    until("the gate to notice", lambda: application.status()["state"] == "Live")
    assert condition_texts(application, "gateway") == before


def test_latched_readiness_never_goes_back(application: Application, database: str, migrations: Path) -> None:
    """Pods become ready once the ledger has their revision, and stay so when it is undone."""
    application.opt_in(database, readiness="Latch", onUndeclared="Allow")
    application.deploy("gateway", THIRD)
    application.await_held("gateway")
    migrate(migrations, database)
    application.await_running("gateway")
    await_condition(application, "gateway", "True")
    before = condition_texts(application, "gateway")
    migrate(migrations, database, "--to", FIRST, command="down")
    until("the gate to notice", lambda: application.status()["head"] == FIRST)
    assert condition_texts(application, "gateway") == before


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
