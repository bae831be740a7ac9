"""A LedgerGate and its namespace change while pods are held: what is held follows, and nothing else moves."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from testbed.cluster.application import FIRST, THIRD, Application, migrate
from testbed.cluster.installation import Installation
from testbed.cluster.pod_watch import PodWatch
from testbed.postgres import create_database, drop_database
from testbed.waiting import until
from tests.cluster.events import events
from webhook.controller.late_gates import LATE_GATE_SECONDS

LABEL = "ledgergate.dev/admission"
SOON = 15.0
"""Seconds for what takes effect within one on an idle machine: generous, since a busy one runs the tests too."""


def label(application: Application, word: str) -> None:
    """Change the namespace's label."""
    application.plane.kubectl("label", "namespace", application.namespace, "--overwrite", word)


def delete(application: Application, *what: str) -> None:
    """Delete something, and do not wait for it."""
    application.plane.kubectl("delete", *what, "-n", application.namespace, "--wait=false")


def metric(installation: Installation, name: str, application: Application) -> float | None:
    """Return a gauge of the gate `app`; None if it is not exported."""
    labels = f'{name}{{gate="app",namespace="{application.namespace}"}}'
    lines = [line for line in installation.metrics("controller").splitlines() if line.startswith(labels)]
    return float(lines[0].split()[-1]) if lines else None


def test_the_end_of_a_gate_is_the_end_of_its_hold(
    application: Application, installation: Installation, database: str
) -> None:
    """Deleting the LedgerGate lets its pods go, after the wait for another gate, and takes its metrics away."""
    application.opt_in(database)
    application.deploy("gateway", THIRD)
    application.await_held("gateway")
    until("the metric", lambda: metric(installation, "ledgergate_held_pods", application) == 3)
    delete(application, "ledgergate", "app")
    until("no metric", lambda: metric(installation, "ledgergate_held_pods", application) is None)
    application.await_running("gateway", timeout=LATE_GATE_SECONDS + SOON)


def test_a_gate_that_is_replaced_keeps_its_pods(application: Application, database: str, migrations: Path) -> None:
    """`kubectl replace --force`, as Argo CD's Replace does it, deletes the gate and creates it: its pods stay held."""
    application.opt_in(database)
    application.deploy("gateway", THIRD)
    application.await_held("gateway")
    with PodWatch(application.plane, application.namespace) as watch:
        began = time.monotonic()
        delete(application, "ledgergate", "app")
        until("pods without a gate", lambda: not application.objects("ledgergate.dev/v1alpha1", "ledgergates"))
        application.gate()
        until("the new gate's status", lambda: application.status().get("heldPods") == 3, timeout=LATE_GATE_SECONDS - 2)
        until("the end of the wait", lambda: time.monotonic() > began + LATE_GATE_SECONDS + 2)
        assert all(sight.gated for sight in watch.sights)
    migrate(migrations, database)
    application.await_running("gateway")


def test_selector_policy_and_secret_take_effect_at_once(
    application: Application, postgres: str, database: str, migrations: Path
) -> None:
    """Held pods follow within a moment, whichever field of a gate is edited."""
    application.opt_in(database)
    application.deploy("one", THIRD)
    application.await_held("one")
    application.gate(selector={"matchLabels": {"other": "pods"}})
    application.await_running("one", timeout=SOON)
    application.gate()
    application.deploy("two", THIRD)
    application.await_held("two")
    application.gate(onBehind="Warn")
    application.await_running("two", timeout=SOON)
    application.gate()
    application.deploy("three", THIRD)
    application.await_held("three")
    migrated = create_database(postgres)
    migrate(migrations, migrated)
    application.secret(migrated)
    application.await_running("three", timeout=SOON)  # while pods wait, the Secret is read every 5 s
    # What the other database had does not count for this one. While no pod waits, an edit of the gate reads the Secret.
    application.secret(database)
    application.gate(maxHold="7m")
    until("the other ledger", lambda: application.status().get("applied") == 0)
    application.deploy("four", FIRST)
    application.await_held("four")
    drop_database(migrated)


@pytest.mark.parametrize("word", [f"{LABEL}=audit", f"{LABEL}-"])
def test_a_namespace_that_opts_out_lets_its_pods_go(application: Application, database: str, word: str) -> None:
    """The label becomes `audit`, or is taken off, while pods are held: they go, and the pods say why."""
    application.opt_in(database)
    application.deploy("gateway", THIRD)
    application.await_held("gateway")
    label(application, word)
    application.await_running("gateway", timeout=SOON)
    until("three Events", lambda: len(events(application, "Released", "Pod")) == 3)
    assert "opted out of enforcement" in events(application, "Released", "Pod")[0]["note"]


def test_a_held_pod_without_our_label_is_still_found(application: Application, database: str, migrations: Path) -> None:
    """A held pod whose label `ledgergate.dev/gated` was removed is released nevertheless."""
    application.opt_in(database)
    application.deploy("gateway", THIRD)
    application.await_held("gateway")
    application.plane.kubectl("label", "pods", "--all", "ledgergate.dev/gated-", "-n", application.namespace)
    application.await_held("gateway")
    migrate(migrations, database)
    application.await_running("gateway")


def test_a_bypass_begins_by_hand_and_ends_by_the_clock(
    application: Application, installation: Installation, database: str
) -> None:
    """A bypass releases held pods, with an Event and a metric; after its end new pods are held, with an Event."""
    application.opt_in(database)
    application.deploy("before", THIRD)
    application.await_held("before")
    # Long enough that a busy machine sees its beginning: the metric and the Event below.
    until_then = datetime.now(UTC) + timedelta(seconds=15)
    application.gate(bypass={"until": f"{until_then:%Y-%m-%dT%H:%M:%SZ}", "reason": "the migrator is broken"})
    application.await_running("before", timeout=SOON)
    until("the metric", lambda: metric(installation, "ledgergate_bypass_active", application) == 1)
    (event,) = until("an Event", lambda: events(application, "Bypassed", "LedgerGate"))
    assert event["type"] == "Warning"
    assert "the migrator is broken" in event["note"]
    until("its end", lambda: metric(installation, "ledgergate_bypass_active", application) == 0)
    assert datetime.now(UTC) >= until_then.replace(microsecond=0)
    application.deploy("after", THIRD)
    application.await_held("after")
    until("an Event of its end", lambda: events(application, "BypassEnded", "LedgerGate"))


def test_a_held_pod_may_be_deleted(application: Application, installation: Installation, database: str) -> None:
    """A terminating pod is not held back and not counted."""
    application.opt_in(database)
    application.deploy("gateway", THIRD, replicas=1)
    application.await_held("gateway", 1)
    until("the metric", lambda: metric(installation, "ledgergate_held_pods", application) == 1)
    delete(application, "deployment", "gateway")
    until("no pod", lambda: not application.pods("gateway"))
    until("no count", lambda: metric(installation, "ledgergate_held_pods", application) == 0)


def test_a_dry_run_leaves_nothing_behind(application: Application, database: str) -> None:
    """`--dry-run=server` shows the hold, and creates neither a pod nor an Event."""
    application.opt_in(database)
    shown = application.plane.kubectl(
        *("run", "maybe", "--image=app", "--labels=guarded=true", f"--annotations=ledgergate.dev/revision={THIRD}"),
        *("-n", application.namespace, "--dry-run=server", "-o", "json"),
    )
    assert json.loads(shown)["spec"]["schedulingGates"] == [{"name": "ledgergate.dev/ledger"}]
    application.deploy("real", THIRD, replicas=1)
    until("the Event of a real one", lambda: events(application, "Held", "Pod"))
    assert len(events(application, "Held", "Pod")) == 1
