"""Events and the LedgerGate's status, read from the API server."""

import json
import subprocess
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from testbed.cluster.application import FIRST, LEDGERGATE, SECOND, THIRD, Application, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.postgres import run
from testbed.waiting import until
from tests.cluster.events import events


def execute(database: str, *statements: str) -> None:
    """Run SQL."""

    async def work() -> None:
        connection = await asyncpg.connect(database)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    run(work())


def with_login(database: str, user: str, password: str) -> str:
    """Return the URL of a database for another role."""
    parts = urlsplit(database)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))


def test_a_held_rollout_is_reported_once_on_each_object(
    application: Application, database: str, migrations: Path
) -> None:
    """One Held and one Released on each pod, and one Event for each rollout on the Deployment, where people look."""
    migrate(migrations, database, "--to", FIRST)
    application.opt_in(database)
    application.deploy("gateway", SECOND)
    application.await_held("gateway")
    until("the Events", lambda: len(events(application, "Held", "Pod")) == 3)
    (event,) = until("the rollout's Event", lambda: events(application, "PodsHeld", "Deployment"))
    assert event["regarding"]["name"] == "gateway"
    assert f"the pod expects {SECOND}" in event["note"]
    application.deploy("gateway", SECOND, replicas=5)
    application.await_held("gateway", 5)
    application.deploy("gateway", THIRD)  # another rollout
    until("its Event", lambda: len(events(application, "PodsHeld", "Deployment")) == 2)
    migrate(migrations, database)
    application.await_running("gateway")
    held = {event["regarding"]["name"] for event in events(application, "Held", "Pod")}
    assert len(events(application, "Held", "Pod")) == len(held)
    waited = held & set(application.running("gateway"))
    assert waited

    def released() -> set[str]:
        return {event["regarding"]["name"] for event in events(application, "Released", "Pod")}

    until("their Events", lambda: waited <= released())
    assert len(events(application, "Released", "Pod")) == len(released())
    described = application.plane.kubectl("describe", "deployment", "gateway", "-n", application.namespace)
    assert "PodsHeld" in described


def test_pods_that_are_held_for_too_long_are_reported(
    application: Application, installation: Installation, database: str
) -> None:
    """After maxHold the pods and the gate say so, once, and a metric counts them; nothing is opened."""
    application.opt_in(database, maxHold="1s")
    application.deploy("gateway", THIRD)
    application.await_held("gateway")
    until("Events on the pods", lambda: len(events(application, "HeldTooLong", "Pod")) == 3)
    (event,) = until("an Event on the gate", lambda: events(application, "HeldTooLong", "LedgerGate"))
    assert event["type"] == "Warning"
    assert "longer than 1s: the ledger is empty" in event["note"]
    line = f'ledgergate_held_too_long_pods{{gate="app",namespace="{application.namespace}"}} 3.0'
    until("the metric", lambda: line in installation.metrics("controller"))
    assert len(application.held("gateway")) == 3


def test_a_gate_that_cannot_work_says_what_to_do(application: Application, database: str, migrations: Path) -> None:
    """Each mistake is a condition and a Warning on the gate with its remedy, and never shows the address."""
    role = f"nobody_{uuid.uuid4().hex}"
    execute(database, f"create role {role} login password 'known'", "create table strange (id int)")
    migrate(migrations, database)
    application.opt_in(database)

    def says(reason: str, words: str) -> None:
        def probe() -> bool:
            return any(words in event["note"] and event["type"] == "Warning" for event in found())

        def found() -> list[dict[str, str]]:
            return events(application, reason, "LedgerGate")

        until(f"a {reason} Event with {words!r}", probe)
        message = {held["type"]: held for held in application.status()["conditions"]}["Stalled"]
        assert message["status"] == "True"
        assert all(urlsplit(database).netloc.rpartition("@")[2] not in event["note"] for event in found())

    application.gate(ledger={"dialect": "ledgergate", "table": "strange"})
    says("Misconfigured", "correct spec.ledger")
    application.gate(ledger={"dialect": "cobol"})
    says("Misconfigured", "spec.ledger.dialect: 'cobol' is not one of")
    application.gate(database={"secretRef": {"name": "missing"}})
    says("Misconfigured", "kubectl create role ledgergate-database")
    application.gate()
    until("the gate to work again", lambda: application.status()["state"] == "Live")
    # An edit of the Secret alone would be noticed within a minute.
    application.secret("mysql://nowhere")
    application.gate(maxHold="1m")
    says("Misconfigured", "Secret pg: ")
    application.secret(with_login(database, role, "known"))
    application.gate(maxHold="2m")
    says("Misconfigured", "may not read the ledger: grant it usage")
    application.secret(urlunsplit(urlsplit(database)._replace(path="/nosuch")))
    application.gate(maxHold="3m")
    says("Misconfigured", "does not have the database that Secret pg names")
    execute(database, f"drop role {role}")


def test_a_running_migration_is_in_the_status(application: Application, database: str, tmp_path: Path) -> None:
    """`status.migration` names the revision, who holds the lock and since when; afterwards it is gone."""
    slow = tmp_path / "slow"
    slow.mkdir()
    # It runs until the test has seen the status and writes a row into `go`; for a minute at most.
    loop = "for n in 1..600 loop exit when exists (select from go); perform pg_sleep(0.1); end loop;"
    sql = f"do $$ begin {loop} end $$;"
    (slow / f"{FIRST}.sql").write_text(f"-- migrate:up\n{sql}\n\n-- migrate:down\nselect 1;\n")
    execute(database, "create table go (id int)")
    application.opt_in(database)
    application.deploy("gateway", FIRST)
    application.await_held("gateway")
    with subprocess.Popen([LEDGERGATE, "migrate", "up", "--dir", slow, "--database-url", database]) as run:
        seen = until("the run in the status", lambda: application.status().get("migration", {}))
        execute(database, "insert into go values (1)")
        assert run.wait(60) == 0
    assert seen["holder"]
    assert seen["since"].endswith("Z")
    until("its end", lambda: "migration" not in application.status())
    application.await_running("gateway")


@pytest.mark.parametrize("how", ["mode", "label"])
def test_audit_says_what_enforce_would_have_done(application: Application, database: str, how: str) -> None:
    """The pod starts, and an Event on it says that it would not have."""
    application.opt_in(database, **({"mode": "Audit"} if how == "mode" else {}))
    if how == "label":
        application.plane.kubectl(
            *("label", "namespace", application.namespace, "--overwrite", "ledgergate.dev/admission=audit")
        )
    application.deploy("gateway", THIRD)
    application.await_running("gateway")
    until("an Event on each pod", lambda: len(events(application, "Audit", "Pod")) == 3)
    event = events(application, "Audit", "Pod")[0]
    assert event["type"] == "Warning"
    assert "under Enforce it would not start" in event["note"]
    assert events(application, "Held", "Pod") == []


def test_the_status_remembers_what_shuts_images_out(application: Application, database: str, tmp_path: Path) -> None:
    """A contract migration is in `status.history` with its boundary, and the ledger's place without its host."""
    files = write_migrations(tmp_path / "migrations")
    text = (files / f"{SECOND}.sql").read_text()
    contract = f"-- migrate:up contract compatible-from:{SECOND}"
    (files / f"{SECOND}.sql").write_text(text.replace("-- migrate:up", contract))
    migrate(files, database)
    application.opt_in(database)
    until("the history", lambda: len(application.status().get("history", ())) == 3)
    status = application.status()
    assert [entry.get("compatibleFrom") for entry in status["history"]] == [None, SECOND, None]
    assert len(status["place"]) == 16
    assert urlsplit(database).path.strip("/") not in json.dumps(status)
