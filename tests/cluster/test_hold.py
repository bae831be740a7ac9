"""The main job: pods wait for the ledger, and start once it has their revision."""

from pathlib import Path

from testbed.cluster.application import FIRST, SECOND, THIRD, Application, migrate, write_migrations
from testbed.waiting import until


def test_pods_are_held_until_the_ledger_has_their_revision(
    application: Application, database: str, migrations: Path
) -> None:
    """Three pods wait unscheduled, not even an administrator can release one, and `migrate up` lets all of them run."""
    application.opt_in(database)
    application.deploy("gateway", THIRD)
    held = application.await_held("gateway")
    refused = application.try_to_ungate(held[0])
    assert "denied the request" in refused
    assert "ledgergate.dev/ledger stays" in refused
    assert application.await_held("gateway") == held
    until("the status to count them", lambda: application.status()["heldPods"] == 3)
    migrate(migrations, database)
    assert sorted(application.await_running("gateway")) == sorted(held)
    until("the status to follow", lambda: application.status()["heldPods"] == 0)
    assert application.status()["head"] == THIRD
    assert application.status()["applied"] == 3


def test_pods_start_at_once_when_the_ledger_is_there(application: Application, database: str, migrations: Path) -> None:
    """With the ledger at the expected revision no gate is left on: admission takes it off in the same request."""
    migrate(migrations, database)
    application.opt_in(database)
    application.deploy("gateway", THIRD)
    until("three pods", lambda: len(application.pods("gateway")) == 3)
    assert application.held("gateway") == []
    application.await_running("gateway")


def test_the_pod_that_migrates_is_admitted(application: Application, database: str) -> None:
    """A pod with the migrator starts while the ledger is behind; otherwise it would wait for its own migration."""
    application.opt_in(database)
    application.deploy("controller", THIRD, replicas=1, annotations={"ledgergate.dev/migrates": "app"})
    application.await_running("controller", 1)


def test_pods_of_an_older_image_are_recreated_when_the_ledger_is_ahead(
    application: Application, database: str, migrations: Path
) -> None:
    """Deleting an old pod lets its replacement start at once: the ledger still holds what it needs."""
    migrate(migrations, database)
    application.opt_in(database)
    application.deploy("old", FIRST, replicas=1)
    (before,) = application.await_running("old", 1)
    application.plane.kubectl("delete", "pod", before, "-n", application.namespace, "--wait=false")
    until("another pod in its place", lambda: set(application.running("old")) - {before})
    assert application.held("old") == []


def test_the_long_form_finds_a_gap(application: Application, database: str, tmp_path: Path) -> None:
    """An image that knows an older migration which the ledger lacks waits for it."""
    with_gap = write_migrations(tmp_path / "gap", (FIRST, THIRD))
    whole = write_migrations(tmp_path / "whole", (FIRST, SECOND, THIRD))
    migrate(with_gap, database)
    application.opt_in(database)
    application.deploy("gateway", migrate(whole, database, command="revision").strip(), replicas=1)
    application.await_held("gateway", 1)


def test_a_pod_that_no_gate_selects_is_left_alone(application: Application, database: str) -> None:
    """Opting a namespace in concerns the pods that a LedgerGate selects, and no other."""
    application.opt_in(database)
    application.deploy("other", None, labels={})
    application.await_running("other")


def test_a_pod_waits_for_a_gate_that_comes_after_it(application: Application, database: str) -> None:
    """Helm creates custom resources last: a pod that declares a revision waits for its gate a while, and is held."""
    application.opt_in(database)
    application.deploy("early", THIRD, labels={"later": "true"})
    application.await_held("early")
    application.gate("second", selector={"matchLabels": {"later": "true"}})
    until("the second gate to hold them", lambda: application.status("second").get("heldPods") == 3)


def test_a_pod_whose_gate_never_comes_starts(application: Application, database: str) -> None:
    """A pod with a declared revision but without a LedgerGate starts after some seconds."""
    application.opt_in(database)
    application.deploy("orphan", THIRD, labels={}, replicas=1)
    application.await_held("orphan", 1)
    application.await_running("orphan", 1)


def test_an_undeclared_pod_starts_with_a_warning(application: Application, database: str) -> None:
    """By default a selected pod without a revision starts, and kubectl says what is missing."""
    application.opt_in(database)
    said = application.plane.kubectl(
        "run", "bare", "--image=app", "--labels=guarded=true", "-n", application.namespace, check=False
    )
    assert "Warning: the pod declares no revision for gate app" in said


def test_a_bound_pod_is_denied_instead_of_held(application: Application, database: str) -> None:
    """A pod with spec.nodeName cannot be held, so a bad verdict refuses it and says why."""
    application.opt_in(database)
    bound = '{"spec": {"nodeName": "node-0"}, "metadata": {"annotations": {"ledgergate.dev/revision": "x"}}}'
    said = application.plane.kubectl(
        "run",
        "bound",
        "--image=app",
        "--labels=guarded=true",
        f"--overrides={bound}",
        "-n",
        application.namespace,
        check=False,
    )
    assert "denied the request" in said
    assert "spec.nodeName is set" in said
