"""A contract migration waits until no living pod needs the old schema, and none comes back beside it."""

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.cluster.application import FIRST, SECOND, Application, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.cluster.pod_watch import PodWatch, Sight
from testbed.waiting import until

DROP = "20260104000000_drop"
RACES = int(os.environ.get("LEDGERGATE_RACES", "12"))
"""Tries of the race; more of them find rarer orders."""
KILLS = int(os.environ.get("LEDGERGATE_KILLS", "4"))
"""Tries with a kill."""
SLOW_SECONDS = 20.0
"""From the last old pod's end to the release: less than 1 s, but a machine that runs other tests may be busy."""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    directory = write_migrations(tmp_path / "migrations", (FIRST, SECOND))
    up = f"-- migrate:up contract compatible-from:{SECOND}\ndrop table users;\n"
    sql = f"{up}\n-- migrate:down\ncreate table users ();\n"
    (directory / f"{DROP}.sql").write_text(sql)
    return directory


@pytest.fixture
def expanded(application: Application, database: str, migrations: Path) -> Application:
    """Application whose ledger has everything but the contract migration."""
    migrate(migrations, database, "--to", SECOND)
    application.opt_in(database)
    until("the ledger to be read", lambda: application.status().get("head") == SECOND)
    return application


def migrator_template(**annotations: str) -> dict[str, Any]:
    declared = {"migrates": "app", "revision": SECOND, "contract": f"{DROP}:{SECOND}", **annotations}
    return {
        "metadata": {
            "labels": {"app": "migrate", "guarded": "true"},
            "annotations": {f"ledgergate.dev/{name}": text for name, text in declared.items()},
        },
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "app"}]},
    }


def apply_job(application: Application, name: str = "migrate", **annotations: str) -> None:
    """Create the Job with the contract migration."""
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": application.namespace},
        "spec": {"backoffLimit": 0, "template": migrator_template(**annotations)},
    }
    application.plane.apply(yaml.safe_dump(job))


def apply_pod(application: Application, name: str, template: dict[str, Any] | None = None) -> None:
    """Create a migrator without a Job."""
    pod = {"apiVersion": "v1", "kind": "Pod", **(template or migrator_template())}
    pod["metadata"] |= {"name": name, "namespace": application.namespace}
    application.plane.apply(yaml.safe_dump(pod))


def scale(application: Application, name: str, replicas: int) -> None:
    """Scale a Deployment."""
    path = f"/apis/apps/v1/namespaces/{application.namespace}/deployments/{name}"
    application.plane.api.merge(path, {"spec": {"replicas": replicas}})


def end(application: Application, pod: str, phase: str) -> None:
    """Let a pod end, as its kubelet would report it."""
    application.plane.api.merge(
        f"/api/v1/namespaces/{application.namespace}/pods/{pod}/status", {"status": {"phase": phase}}
    )


def delete(application: Application, pod: str) -> None:
    """Delete a pod at once."""
    application.plane.kubectl(
        "delete", "pod", pod, "-n", application.namespace, "--grace-period=0", "--force", "--wait=false", check=False
    )


def waiting_for(application: Application) -> int | None:
    """Return how many pods the contract migration waits for; None where none waits."""
    waiting = application.status().get("contractWaiting")
    return None if waiting is None else waiting["waitingFor"]


def is_quiet(application: Application) -> bool:
    """Return whether no contract migration waits or runs."""
    status = application.status()
    return not status.get("contracting") and not status.get("contractWaiting")


def assert_never_together(sights: Sequence[Sight]) -> None:
    """Assert that, in the order of the API server's events, no older pod and migrator were free at the same time."""
    now: dict[str, Sight] = {}
    for sight in sights:
        now[sight.name] = sight
        going = [each for each in now.values() if not each.gated and each.phase in {"Pending", "Running"}]
        migrators = [each.name for each in going if each.labels.get("app") == "migrate"]
        older = [each.name for each in going if each.labels.get("app") == "old"]
        assert not (migrators and older), (migrators, older)


def test_a_contract_job_waits_for_the_rollout(expanded: Application, database: str, migrations: Path) -> None:
    """Applied with its Deployment it is held, says for whom, and goes when the last old pod has ended."""
    expanded.deploy("gateway", FIRST)
    before = set(expanded.await_running("gateway"))
    with PodWatch(expanded.plane, expanded.namespace) as watch:
        apply_job(expanded)
        until("the count of pods", lambda: waiting_for(expanded) == 3)
        (held,) = expanded.held("migrate")
        waiting = expanded.status()["contractWaiting"]
        assert waiting["compatibleFrom"] == SECOND
        assert waiting["oldest"] == FIRST
        assert waiting["pods"] == [{"owner": "deployment/gateway", "expected": FIRST, "count": 3, "needed": True}]
        assert "contract migration 20260104000000_drop of ledger app" in expanded.try_to_ungate(held)
        notes = [
            event["note"]
            for event in expanded.objects("events.k8s.io/v1", "events")
            if event["reason"] == "StillNeeded" and event["regarding"]["kind"] == "Job"
        ]
        assert ["3 pods of deployment/gateway expect" in note for note in notes] == [True]
        expanded.deploy("gateway", SECOND)
        until("the migrator to run", lambda: expanded.running("migrate"))
        assert expanded.status()["contracting"]["compatibleFrom"] == SECOND
        sights = watch.sights
    ended = max(sight.at for sight in sights if sight.name in before and sight.phase == "Deleted")
    released = min(sight.at for sight in sights if sight.name == held and not sight.gated)
    assert 0 < released - ended < SLOW_SECONDS, "from the last old pod's end to the release"
    migrate(migrations, database)
    until("the barrier in the ledger", lambda: is_quiet(expanded))
    expanded.plane.kubectl("rollout", "undo", "deployment/gateway", "-n", expanded.namespace)
    until("the older pods to be refused", lambda: "cannot run" in _failures(expanded, "gateway"))


def _failures(application: Application, name: str) -> str:
    found = application.objects("apps/v1", "replicasets", labelSelector=f"app={name}")
    return "".join(
        condition["message"] for each in found for condition in each["status"].get("conditions", ()) if condition
    )


def test_a_migrator_that_fails_lets_older_pods_in_again(expanded: Application) -> None:
    """The barrier lasts only as long as the migration could be applied."""
    expanded.deploy("old", FIRST, replicas=0)
    apply_pod(expanded, "migrate-1")
    until("the migrator to run", lambda: expanded.running("migrate"))
    scale(expanded, "old", 1)
    until("the older pod to be refused", lambda: "is being applied" in _failures(expanded, "old"))
    assert expanded.pods("old") == []
    end(expanded, "migrate-1", "Failed")
    expanded.await_running("old", 1)
    assert is_quiet(expanded)


def test_the_phase_expand_waits_for_no_pod(expanded: Application) -> None:
    """It stops before the contract migration, so older pods may run beside it."""
    expanded.deploy("old", FIRST, replicas=1)
    expanded.await_running("old", 1)
    apply_job(expanded, phase="expand")
    until("the migrator to run", lambda: expanded.running("migrate"))
    assert len(expanded.running("old")) == 1


def test_a_migrator_that_another_gate_holds_shuts_no_pod_out(expanded: Application) -> None:
    """The other gate may hold it for long: older pods start meanwhile."""
    expanded.gate("second")
    until("the second gate to be read", lambda: expanded.status("second").get("head") == SECOND)
    template = migrator_template()
    template["metadata"]["annotations"]["revision.ledgergate.dev/second"] = DROP
    apply_pod(expanded, "migrate-1", template)
    until("the second gate to hold it", lambda: expanded.status("second").get("heldPods") == 1)
    expanded.deploy("old", FIRST, replicas=1)
    expanded.await_running("old", 1)
    assert expanded.held("migrate") == ["migrate-1"]
    assert is_quiet(expanded)


def test_deny_holds_the_first_migrator_and_refuses_the_next(expanded: Application) -> None:
    """The first is held until the older pods, which are counted for it, have ended."""
    expanded.gate(onContract="Deny")
    expanded.deploy("old", FIRST, replicas=1)
    expanded.await_running("old", 1)
    apply_pod(expanded, "migrate-1")
    until("the count of pods", lambda: waiting_for(expanded) == 1)
    pod = {"apiVersion": "v1", "kind": "Pod", **migrator_template()}
    pod["metadata"] |= {"name": "migrate-2", "namespace": expanded.namespace}
    create = ("create", "--dry-run=server", "-f", "-")

    def answer() -> str:
        return expanded.plane.kubectl(*create, stdin=yaml.safe_dump(pod), check=False)

    until("the next migrator to be refused", lambda: "1 pod of deployment/old expects" in answer())
    assert "onContract of the gate denies it while older pods run" in answer()
    assert expanded.held("migrate") == ["migrate-1"]
    scale(expanded, "old", 0)
    until("the first migrator to run", lambda: expanded.running("migrate") == ["migrate-1"])


def test_a_gate_in_audit_says_which_pods_would_be_waited_for(expanded: Application) -> None:
    """The Event on a migrator that starts all the same counts them."""
    expanded.gate(mode="Audit")
    expanded.deploy("old", FIRST, replicas=1)
    expanded.await_running("old", 1)
    apply_pod(expanded, "migrate-1")
    until("the migrator to run", lambda: expanded.running("migrate"))
    note = until("the Event", lambda: _audit_notes(expanded, "migrate-1"))
    assert f"1 pod of deployment/old expects {FIRST}" in note


def _audit_notes(application: Application, pod: str) -> str:
    events = application.objects("events.k8s.io/v1", "events")
    return "".join(each["note"] for each in events if each["reason"] == "Audit" and each["regarding"]["name"] == pod)


def test_an_older_pod_never_gets_in_at_the_moment_of_the_release(expanded: Application) -> None:
    """An older ReplicaSet is scaled up again about when its last pod has ended: one of the two waits, each time."""
    expanded.deploy("old", FIRST, replicas=1)
    for seed in range(RACES):
        _race(expanded, random.Random(seed), f"migrate-{seed}")  # noqa: S311 - a seed, no secret


def _race(application: Application, chance: random.Random, name: str) -> None:
    application.await_running("old", 1)
    with PodWatch(application.plane, application.namespace) as watch:
        apply_pod(application, name)
        until("the migrator to wait", lambda: waiting_for(application) == 1)
        scale(application, "old", 0)
        for pod in application.running("old"):
            delete(application, pod)
        _after(chance.uniform(0, 1.5))
        scale(application, "old", 3)
        until("one of the two to go", lambda: application.running("migrate") or len(application.running("old")) == 3)
        _after(chance.uniform(0, 0.3))
        assert_never_together(watch.sights)
        delete(application, name)
        until("older pods to start", lambda: len(application.running("old")) == 3)
        assert_never_together(watch.sights)
    scale(application, "old", 1)


def _after(seconds: float) -> None:
    """Let a random time pass: not to wait for anything, but to meet another moment in each try."""
    time.sleep(seconds)


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_kill_at_any_moment_lets_no_older_pod_in(
    expanded: Application, installation: Installation, seed: int
) -> None:
    """Webhook, controller or both die while the migrator waits, goes or runs: the next ones go on from the status."""
    chance = random.Random(seed)  # noqa: S311 - a seed, no secret
    victims = chance.choice([("webhook",), ("controller",), ("webhook", "controller")])
    expanded.deploy("old", FIRST, replicas=1)
    expanded.await_running("old", 1)
    with PodWatch(expanded.plane, expanded.namespace) as watch:
        apply_pod(expanded, "migrate-1")
        until("the migrator to wait", lambda: waiting_for(expanded) == 1)
        scale(expanded, "old", 0)
        _after(chance.uniform(0, 2.0))
        for victim in victims:
            installation.kill(victim)
        scale(expanded, "old", 2)
        _after(chance.uniform(0, 1.0))
        installation.ensure()
        until(
            "one of the two to go",
            lambda: expanded.running("migrate") or len(expanded.running("old")) == 2,
            timeout=120,
        )
        assert_never_together(watch.sights)
        delete(expanded, "migrate-1")
        until("older pods to start", lambda: len(expanded.running("old")) == 2)
        assert_never_together(watch.sights)
