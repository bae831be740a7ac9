"""Many tenants in one cluster, some with broken ledgers: the others are not affected."""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from testbed.cluster.application import FIRST, Application, migrate, role, write_migrations
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.postgres import create_database, drop_database
from testbed.waiting import until
from tests.cluster.tenants import gate, secret

NAMESPACES, SECRETS = 30, 5
LEASE_SECONDS = 5


def tenant(plane: ControlPlane, namespace: str, url: str) -> list[dict[str, Any]]:
    """Return a namespace with gates, each of which has a Secret of its own."""
    names = [f"pg-{number}" for number in range(SECRETS)]
    rights = list(yaml.safe_load_all(role(plane)))
    for each in rights:
        if each["kind"] == "Role":
            each["rules"][0]["resourceNames"] = names
    found = [*rights, *(secret(name, url) for name in names), *(gate(name, name) for name in names)]
    for each in found:
        each["metadata"]["namespace"] = namespace
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, *found]


@pytest.fixture
def tenants(plane: ControlPlane, installation: Installation, database: str) -> Iterator[list[str]]:
    """Thirty namespaces with 150 gates and 150 Secrets."""
    del installation
    names = [f"tenant-{number}" for number in range(NAMESPACES)]
    plane.apply(yaml.safe_dump_all(each for name in names for each in tenant(plane, name, database)))
    yield names
    for name in names:
        plane.api.delete(f"/api/v1/namespaces/{name}")


def states(plane: ControlPlane) -> list[str]:
    """Return the state of each gate of the tenants."""
    gates = plane.api.get("/apis/ledgergate.dev/v1alpha1/ledgergates")["items"]
    return [
        each.get("status", {}).get("state", "") for each in gates if each["metadata"]["namespace"].startswith("tenant-")
    ]


def renewed(plane: ControlPlane) -> datetime:
    """Return when the Lease was renewed last."""
    lease = json.loads(plane.kubectl("get", "lease", "ledgergate-controller", "-n", "ledgergate", "-o", "json"))
    return datetime.fromisoformat(lease["spec"]["renewTime"])


def test_150_secrets_delay_nothing(
    tenants: list[str], application: Application, installation: Installation, database: str, tmp_path: Path
) -> None:
    """The Lease is kept, every gate has a status, and a release does not wait for a connection."""
    plane = application.plane
    until("a status of every gate", lambda: states(plane) == ["Live"] * NAMESPACES * SECRETS)
    application.opt_in(database)
    application.deploy("web", FIRST)
    application.await_held("web")
    began = renewed(plane)
    lost = installation.log("controller").count("leader.lost")
    until("renewals", lambda: renewed(plane) - began > timedelta(seconds=2 * LEASE_SECONDS), pause=0.5)
    assert installation.log("controller").count("leader.lost") == lost
    migrate(write_migrations(tmp_path / "migrations"), database, "--to", FIRST)
    application.await_running("web")
    del tenants


BAD_ROWS = {
    "time": (
        "knex",
        (
            "create table knex_migrations (id int, name text, batch int, migration_time timestamptz);"
            "insert into knex_migrations values (1, 'a', 1, '294276-12-31'), (2, 'b', 1, '4713-01-01 BC')"
        ),
        "Live",
    ),
    "size": (
        "umzug",
        (
            'create table "SequelizeMeta" (name text);'
            "insert into \"SequelizeMeta\" select repeat('x', 20000) from generate_series(1, 10)"
        ),
        "Misconfigured",
    ),
    "number": (
        "sqlx",
        (
            "create table _sqlx_migrations (version int, description text, installed_on timestamptz, success bool,"
            "checksum bytea, execution_time numeric);"
            "insert into _sqlx_migrations values (1, '', null, true, '', 'NaN')"
        ),
        "Misconfigured",
    ),
    "type": (
        "django",
        (
            "create table django_migrations (id int, app int, name bytea, applied time);"
            "insert into django_migrations values (1, 1, '\\xff', '12:00')"
        ),
        "Misconfigured",
    ),
}


def test_a_bad_ledger_is_the_fault_of_its_gate(
    application: Application, installation: Installation, postgres: str, database: str, tmp_path: Path
) -> None:
    """Its condition says so; both processes stay alive, and the pods of another gate are held and released."""
    processes = {name: installation._processes.running(name) for name in ("webhook", "controller")}
    assert all(processes.values())
    started = (
        installation.log("controller").count("controller.started"),
        installation.log("webhook").count("webhook.started"),
    )
    application.opt_in(database)
    plane, urls, objects = application.plane, [], []
    for name, (dialect, statements, _) in BAD_ROWS.items():
        url = create_database(postgres)
        urls.append(url)
        _execute(url, statements)
        objects += [secret("pg", url), gate(name, "pg", dialect)]
    for number, name in enumerate(BAD_ROWS):
        namespace = f"{application.namespace[:40]}-{name}"
        plane.create_namespace(namespace)
        parts = [*yaml.safe_load_all(role(plane)), *objects[2 * number : 2 * number + 2]]
        for each in parts:
            each["metadata"]["namespace"] = namespace
        plane.apply(yaml.safe_dump_all(parts))
    for name, (_, _, state) in BAD_ROWS.items():
        bad = Application(plane, f"{application.namespace[:40]}-{name}")
        until(f"the state of gate {name}", partial(_has_state, bad, name, state))
    application.deploy("web", FIRST)
    application.await_held("web")
    migrate(write_migrations(tmp_path / "migrations"), database, "--to", FIRST)
    application.await_running("web")
    assert all(installation._processes.running(name) for name in ("webhook", "controller"))
    now = (
        installation.log("controller").count("controller.started"),
        installation.log("webhook").count("webhook.started"),
    )
    assert now == started
    for name in BAD_ROWS:
        plane.api.delete(f"/api/v1/namespaces/{application.namespace[:40]}-{name}")
    for url in urls:
        drop_database(url)


def _has_state(application: Application, name: str, state: str) -> bool:
    return bool(application.status(name).get("state") == state)


def _execute(url: str, statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statements)
        await connection.close()

    asyncio.run(run())
