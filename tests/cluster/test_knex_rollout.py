"""A rollout with a Knex ledger: the controller's init container runs Knex under `exec`, and the gateway waits."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from testbed.cluster.application import REVISION, Application
from testbed.cluster.container import Image
from testbed.cluster.kubelet import Kubelet
from testbed.tools import install
from testbed.waiting import until
from tests.integration.test_exec_knex import GATE as WAIT
from tests.integration.test_exec_knex import KNEX, KNEXFILE, MIGRATION

USERS, ORDERS = "20250126120000_add_users", "20250127090000_add_orders"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The working directory of the application's image; its second migration waits for the file `go`."""
    try:
        modules = install.npm(install.PINS, install.place(), lambda _: None)
    except install.InstallError as reason:
        pytest.skip(str(reason))
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "knexfile.js").write_text(KNEXFILE)
    (tmp_path / "package.json").write_text("{}\n")
    for name, before in ((USERS, ""), (ORDERS, WAIT)):
        file = tmp_path / "migrations" / f"{name}.js"
        file.parent.mkdir(exist_ok=True)
        file.write_text(MIGRATION.format(before=before, sql=f"create table {name[19:]} (id int)"))
    return tmp_path


@pytest.fixture
def kubelet(application: Application, project: Path) -> Iterator[Kubelet]:
    """What runs the init containers of the application's pods."""
    image = Image(project, path=(Path(sys.executable).parent,))
    with Kubelet(application.plane, application.namespace, {"shop:2": image}) as kubelet:
        yield kubelet


def controller(revision: str) -> str:
    """Return a Deployment whose init container brings the database to the revision."""
    flags = ["--dialect", "knex", "--expect", "$(EXPECTED_REVISION)", "--clear-stale-lock"]
    variables: list[dict[str, Any]] = [
        {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "pg", "key": "url"}}},
        {"name": "EXPECTED_REVISION", "value": revision},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    migrate = {
        "name": "migrate",
        "image": "shop:2",
        "command": ["ledgergate", "migrate", "exec", *flags, "--", *KNEX],
        "env": variables,
    }
    template = {
        "metadata": {
            "labels": {"app": "controller", "guarded": "true"},
            "annotations": {REVISION: revision, "ledgergate.dev/migrates": "app"},
        },
        "spec": {"initContainers": [migrate], "containers": [{"name": "controller", "image": "shop:2"}]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "controller"}}, "template": template}
    whole = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "controller"}, "spec": spec}
    return yaml.safe_dump(whole)


def test_the_gateway_waits_for_knex(application: Application, kubelet: Kubelet, project: Path, database: str) -> None:
    """Both controllers have the migrator and one runs it; it is killed half-way, and the next run repairs it."""
    application.opt_in(database, ledger={"dialect": "knex"})
    application.deploy("gateway", ORDERS)
    held = application.await_held("gateway")
    application.plane.kubectl("apply", "-n", application.namespace, "-f", "-", stdin=controller(ORDERS))
    until("the first migration", lambda: application.status().get("head") == USERS)
    assert application.held("gateway") == held
    waits = "waiting for the lock, held by controller-"
    until("the other one to wait", lambda: any(waits in run.output for run in kubelet.of("migrate")))
    (first,) = [run for run in kubelet.of("migrate") if waits not in run.output]
    until("the run to write down that the lock row is its own", lambda: asyncio.run(owns_lock_row(database)))
    kubelet.kill(first.pod)
    until("another run", lambda: [run for run in kubelet.of("migrate") if "freed" in run.output])
    assert application.held("gateway") == held
    (project / "go").touch()
    assert sorted(application.await_running("gateway")) == sorted(held)
    application.await_running("controller", 2)
    ended = [run.output for run in kubelet.of("migrate") if run.code == 0]
    assert sorted("nothing to do: the ledger is at" in output for output in ended) == [False, True]
    assert sum("Batch 2 run: 1 migrations" in output for output in ended) == 1
    until("the status to follow", lambda: application.status()["heldPods"] == 0)
    assert (application.status()["head"], application.status()["applied"]) == (ORDERS, 2)


async def owns_lock_row(database: str) -> bool:
    """Return whether a run has written down that its command took the lock row, without which it is never freed.

    The session has a name of ledgergate: another one might have taken the row itself, and the run would prove nothing.
    """
    connection = await asyncpg.connect(database, server_settings={"application_name": "ledgergate test"})
    try:
        return bool(await connection.fetchval("select lock_version is not null from ledgergate_exec"))
    finally:
        await connection.close()


def test_an_older_image_is_rolled_back_to(
    application: Application, kubelet: Kubelet, project: Path, database: str
) -> None:
    """Its pods start while the ledger is ahead, and its migrator has nothing to do, where plain Knex would fail."""
    (project / "go").touch()
    application.opt_in(database, ledger={"dialect": "knex"})
    application.plane.kubectl("apply", "-n", application.namespace, "-f", "-", stdin=controller(ORDERS))
    application.await_running("controller", 2)
    (project / "migrations" / f"{ORDERS}.js").unlink()
    application.plane.kubectl("apply", "-n", application.namespace, "-f", "-", stdin=controller(USERS))
    said = kubelet.await_run("migrate", count=4).output
    assert said == f"nothing to do: the ledger is at {ORDERS} (public.knex_migrations)\n"
    application.deploy("gateway", USERS)
    until("three pods", lambda: len(application.pods("gateway")) == 3)
    assert application.held("gateway") == []
