"""Pods that are created before their LedgerGate, as a first `helm install` creates them."""

import json
import time
from pathlib import Path

import pytest

from testbed.cluster.application import FIRST, THIRD, Application, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.cluster.pod_watch import PodWatch
from testbed.registries.repository import Images
from testbed.waiting import until
from tests.cluster.events import events
from webhook.controller.late_gates import LATE_GATE_SECONDS

SOON = 5.0
"""Seconds for what takes effect within one on an idle machine."""


@pytest.fixture(params=["answers", "dead"])
def webhook(request: pytest.FixtureRequest, installed_with_registry: Installation) -> str:
    """The webhook answers, or is dead; then the API server's own policy, where it has one, holds the pods."""
    if request.param == "dead":
        request.getfixturevalue("policy_cluster")
        installed_with_registry.kill("webhook")
    return str(request.param)


@pytest.fixture
def waiting(
    application: Application, database: str, tmp_path: Path, installed_with_registry: Installation, webhook: str
) -> Application:
    """Application in a namespace whose pods wait, without a LedgerGate, and whose ledger is at FIRST."""
    del installed_with_registry, webhook
    migrate(write_migrations(tmp_path / "migrations"), database, "--to", FIRST)
    application.grant(database)
    application.label(admission="enabled", undeclared="wait")
    command = ("run", "probe", "--image=app", "-n", application.namespace, "--dry-run=server", "-o", "json")
    until("the labels to count", lambda: "schedulingGates" in json.loads(application.plane.kubectl(*command))["spec"])
    return application


def test_a_pod_before_its_gate_never_starts_on_a_bad_verdict(
    waiting: Application, images: Images, database: str, tmp_path: Path
) -> None:
    """The image alone says what the pods need, and their gate comes two seconds later: they wait for the ledger."""
    with PodWatch(waiting.plane, waiting.namespace) as watch:
        waiting.deploy("gateway", None, image=images.push("1", THIRD))
        waiting.await_held("gateway")
        began = time.monotonic()
        until("two seconds", lambda: time.monotonic() > began + 2)
        waiting.gate(expect={"image": {}})
        until("the reason", lambda: any(THIRD in event["note"] for event in events(waiting, "Held", "Pod")))
        until("the end of the wait", lambda: time.monotonic() > began + LATE_GATE_SECONDS + 2)
        assert all(sight.gated for sight in watch.sights)
    migrate(tmp_path / "migrations", database)
    waiting.await_running("gateway")


def test_a_pod_without_any_gate_starts_after_the_wait(waiting: Application, webhook: str) -> None:
    """Its Events say why it waited and why it starts.

    A migrator, for which others wait, does not wait itself; nor does a pod that says that it needs no ledger. Both are
    created later than the pod that waits, and are free before it.
    """
    created = time.monotonic()
    with PodWatch(waiting.plane, waiting.namespace) as watch:
        waiting.deploy("cache", None, labels={}, replicas=1)
        waiting.deploy("migrator", None, labels={}, replicas=1, annotations={"ledgergate.dev/migrates": "app"})
        waiting.deploy("proxy", None, labels={}, replicas=1, annotations={"ledgergate.dev/undeclared": "start"})
        for name in ("migrator", "proxy", "cache"):
            waiting.await_running(name, 1)
        assert time.monotonic() - created > LATE_GATE_SECONDS - 1, f"the webhook {webhook}"
        assert max(_free_since(watch, "migrator"), _free_since(watch, "proxy")) < _free_since(watch, "cache")
    (held,) = until("why it waits", lambda: events(waiting, "Held", "Pod"))
    assert "label ledgergate.dev/undeclared=wait of its namespace" in held["note"]
    (free,) = until("why it starts", lambda: events(waiting, "Released", "Pod"))
    assert free["note"] == "no LedgerGate has come to select it: the pod starts"


def test_the_wait_ends_with_the_label(waiting: Application) -> None:
    """Once the label is removed, waiting pods start at once."""
    waiting.deploy("cache", None, labels={}, replicas=1)
    waiting.await_held("cache", 1)
    waiting.plane.kubectl("label", "namespace", waiting.namespace, "ledgergate.dev/undeclared-")
    waiting.await_running("cache", 1, timeout=SOON)


def _free_since(watch: PodWatch, workload: str) -> float:
    """Return the Unix time at which a pod of a workload was first seen without a scheduling gate."""
    return until(
        f"a pod of {workload} without a gate",
        lambda: [sight.at for sight in watch.sights if sight.name.startswith(workload) and not sight.gated],
    )[0]
