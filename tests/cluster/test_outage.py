"""Outages of ledgergate and of the database: no pod starts on a bad verdict, and none that may start is denied."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from testbed.cluster.application import FIRST, SECOND, THIRD, Application, migrate
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.controlplane.commands import WITHOUT_POLICY
from testbed.postgres import Postgres
from testbed.waiting import until

READS_SINCE = """
select count(*) from pg_stat_activity
where application_name like 'ledgergate %' and state = 'idle' and query_start > $1::text::timestamptz
"""
"""How many of ledgergate's sessions have finished a statement that they began after a time."""


@pytest.mark.usefixtures("policy_cluster")
def test_without_a_webhook_pods_are_created_held_and_judged_by_the_controller(
    application: Application, installation: Installation, database: str, migrations: Path
) -> None:
    """With every webhook dead no pod is denied: the controller releases good pods, the others stay held."""
    migrate(migrations, database, "--to", SECOND)
    application.opt_in(database)
    installation.kill("webhook")
    application.deploy("good", SECOND)
    application.deploy("unselected", None, labels={})
    application.deploy("early", THIRD)
    application.await_running("good")
    application.await_running("unselected")
    held = application.await_held("early")
    assert "denied" in (said := application.try_to_ungate(held[0])) or "failed calling webhook" in said
    assert application.held("early") == held
    # A rollout goes on all the same: a new revision of good pods, still without a webhook.
    application.deploy("good", FIRST)
    until("new pods", lambda: {_revision(pod) for pod in application.pods("good")} == {FIRST})
    application.await_running("good")
    migrate(migrations, database)
    application.await_running("early")


@pytest.fixture(scope="module")
def old_cluster(programs: Path, plane: ControlPlane) -> Iterator[tuple[ControlPlane, Installation]]:
    """A cluster as before 1.36, which has no admission policy that holds pods; a test may kill the webhook."""
    flags = WITHOUT_POLICY if plane.has_policy else ()
    with ControlPlane(programs, api_flags=flags) as old, Installation(old) as installation:
        assert not installation.with_policy
        yield old, installation


def test_without_policy_and_webhook_no_pod_slips_through(
    old_cluster: tuple[ControlPlane, Installation], database: str, migrations: Path
) -> None:
    """Before 1.36 the webhook holds; while it is dead pods are refused, and none is ever there without a gate."""
    plane, installation = old_cluster
    installation.ensure()
    plane.create_namespace("shop")
    application = Application(plane, "shop")
    application.opt_in(database)
    application.deploy("gateway", THIRD)
    held = application.await_held("gateway")
    installation.kill("webhook")
    application.deploy("late", THIRD)
    refused = until("a refusal", lambda: _creation_failures(application, "late"))
    assert "failed calling webhook" in refused
    assert application.pods("late") == []
    assert "failed calling webhook" in application.try_to_ungate(held[0])
    installation.start_webhook()
    application.await_held("late")
    migrate(migrations, database)
    application.await_running("gateway")
    application.await_running("late")


def test_without_policy_and_webhook_pods_start_once_the_label_is_removed(
    old_cluster: tuple[ControlPlane, Installation], database: str
) -> None:
    """Before 1.36, with every webhook dead, pods that were refused are created once their namespace has no label."""
    plane, installation = old_cluster
    installation.ensure()
    plane.create_namespace("unlabelled")
    application = Application(plane, "unlabelled")
    application.opt_in(database)
    installation.kill("webhook")
    application.deploy("gateway", THIRD)
    assert "failed calling webhook" in until("a refusal", lambda: _creation_failures(application, "gateway"))
    assert application.pods("gateway") == []
    plane.kubectl("label", "namespace", "unlabelled", "ledgergate.dev/admission-")
    application.await_running("gateway")


def test_a_stopped_database_stops_no_pod_that_could_run(
    application: Application, installation: Installation, own_postgres: Postgres, migrations: Path
) -> None:
    """In an outage of the database, pods of a revision that the ledger is known to have start; others wait for its end.

    The controller's log has the reason.
    """
    database = own_postgres.create_database()
    migrate(migrations, database, "--to", SECOND)
    application.opt_in(database)
    application.deploy("seen", SECOND)
    before = set(application.await_running("seen"))
    own_postgres.stop("immediate")
    until("the gate to notice", lambda: application.status()["state"] == "Unreachable")
    assert f"ledger.unreadable gates={application.namespace}/app fault=Unreachable error=" in installation.log(
        "controller"
    )
    application.plane.kubectl("delete", "pods", "--all", "-n", application.namespace, "--wait=false")
    until("pods in their place", lambda: len(set(application.running("seen")) - before) == 3)
    application.deploy("unseen", THIRD)
    application.await_held("unseen")
    own_postgres.start()
    migrate(migrations, database)
    application.await_running("unseen")


def test_what_was_last_known_outlives_a_restart_of_everything(
    application: Application, installation: Installation, own_postgres: Postgres, migrations: Path
) -> None:
    """With the database down and all of ledgergate restarted, the gate's status still has what was applied."""
    database = own_postgres.create_database()
    migrate(migrations, database, "--to", SECOND)
    application.opt_in(database)
    until("the status", lambda: application.status().get("head") == SECOND)
    own_postgres.stop("immediate")
    installation.kill("webhook")
    installation.kill("controller")
    installation.ensure()
    application.deploy("seen", FIRST)
    application.await_running("seen")
    application.deploy("unseen", THIRD)
    application.await_held("unseen")


def test_pods_wait_for_a_standby_that_lags(application: Application, own_postgres: Postgres, migrations: Path) -> None:
    """A gate that reads a standby holds pods until the standby has replayed the migration that they expect."""
    primary = own_postgres.create_database()
    with Postgres.standby_of(own_postgres) as standby:
        replica = standby.url(urlsplit(primary).path.strip("/"))
        migrate(migrations, primary, "--to", FIRST)
        application.opt_in(replica)
        until("the standby's ledger", lambda: application.status().get("head") == FIRST)
        query(replica, "select pg_wal_replay_pause()::text")
        application.deploy("gateway", SECOND)
        migrate(migrations, primary)
        now = query(replica, "select clock_timestamp()::text")
        until("a read after the migration", lambda: query(replica, READS_SINCE, now))
        application.await_held("gateway")
        query(replica, "select pg_wal_replay_resume()::text")
        application.await_running("gateway")


def query(database: str, statement: str, *arguments: str) -> Any:
    """Return the value of a statement's only column and row."""

    async def fetch() -> Any:
        connection = await asyncpg.connect(database)
        try:
            return await connection.fetchval(statement, *arguments)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def _revision(pod: dict[str, dict[str, dict[str, str]]]) -> str:
    return pod["metadata"]["annotations"]["ledgergate.dev/revision"]


def _creation_failures(application: Application, name: str) -> str:
    return application.plane.kubectl(
        "get",
        "rs",
        "-n",
        application.namespace,
        "-l",
        f"app={name}",
        "-o",
        "jsonpath={.items[*].status.conditions[?(@.type=='ReplicaFailure')].message}",
    )
