"""Tenants with evil servers in one cluster with a tenant who migrates, who is not affected."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.cluster.application import FIRST, SECOND, THIRD, Application, migrate, role, write_migrations
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.evil.behaviours import BEHAVIOURS
from testbed.evil.server import evil_servers
from testbed.waiting import until
from tests.cluster.tenants import gate, secret

GATES = 4  # of one namespace


def tenant(plane: ControlPlane, namespace: str, ports: dict[str, int]) -> list[dict[str, Any]]:
    """Return a namespace with a gate for each of these servers."""
    names = {behaviour.replace("_", "-"): port for behaviour, port in ports.items()}
    rights = list(yaml.safe_load_all(role(plane)))
    for each in rights:
        if each["kind"] == "Role":
            each["rules"][0]["resourceNames"] = list(names)
    found = [*rights, *(secret(name, f"postgresql://u:p@127.0.0.1:{port}/evil") for name, port in names.items())]
    found += [gate(name, name) for name in names]
    for each in found:
        each["metadata"]["namespace"] = namespace
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, *found]


@pytest.fixture
def evil(plane: ControlPlane, installation: Installation) -> Iterator[list[str]]:
    """Namespaces with a gate for each behaviour."""
    del installation
    with evil_servers() as ports:
        names = []
        every = sorted(BEHAVIOURS)
        for number in range(0, len(every), GATES):
            names.append(f"evil-{number}")
            parts = tenant(plane, names[-1], {each: ports[each] for each in every[number : number + GATES]})
            plane.apply(yaml.safe_dump_all(parts))
        yield names
        for name in names:
            plane.api.delete(f"/api/v1/namespaces/{name}")


def states(plane: ControlPlane) -> list[str]:
    """Return the state of each gate with an evil server; empty for one that has none yet."""
    gates = plane.api.get("/apis/ledgergate.dev/v1alpha1/ledgergates")["items"]
    return [
        each.get("status", {}).get("state", "") for each in gates if each["metadata"]["namespace"].startswith("evil-")
    ]


def test_evil_servers_leave_a_good_tenant_alone(
    evil: list[str], application: Application, installation: Installation, database: str, tmp_path: Path
) -> None:
    """Pods are created, held and released as ever, every evil gate says why it does not work, and no process ends."""
    del evil
    started = [installation.log(part).count(f"{part}.started") for part in ("webhook", "controller")]
    lost = installation.log("controller").count("leader.lost")
    application.opt_in(database)
    migrations = write_migrations(tmp_path / "migrations")
    for number, revision in enumerate((FIRST, SECOND, THIRD)):
        name = f"web-{number}"
        application.deploy(name, revision)
        application.await_held(name)
        migrate(migrations, database, "--to", revision)
        application.await_running(name)
    until(
        "a state of every evil gate",
        lambda: len(found := states(application.plane)) == len(BEHAVIOURS) and all(found) and "Live" not in found,
        timeout=120,
    )
    assert [installation.log(part).count(f"{part}.started") for part in ("webhook", "controller")] == started
    assert all(installation._processes.running(part) for part in ("webhook", "controller"))
    assert installation.log("controller").count("leader.lost") == lost
