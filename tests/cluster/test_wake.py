"""Owners of denied pods are woken once their pods would be admitted, and left alone otherwise."""

from pathlib import Path

import yaml

from testbed.cluster.application import FIRST, THIRD, Application, migrate
from testbed.cluster.installation import Installation
from testbed.waiting import until
from tests.cluster.workloads import KINDS, REPLICAS, manifest

MAKERS = tuple(kind for kind in KINDS if kind.name in {"rolling", "ordered", "everywhere", "once"})
OWNERS = {"ReplicaSet": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "Job": "batch/v1"}
COUNTED = {
    "ReplicaSet": ("replicas", REPLICAS),
    "StatefulSet": ("replicas", REPLICAS),
    "DaemonSet": ("currentNumberScheduled", 1),
    "Job": ("active", 1),
}
"""Where an owner's status counts its pods, and how many it wants."""
WAKEUPS = "ledgergate_owner_wakeups_total"


def apply(application: Application, revision: str = THIRD) -> None:
    """Apply a workload of each kind whose controller makes pods."""
    wanted = [manifest(kind, "new", revision) for kind in MAKERS]
    application.plane.kubectl("apply", "-n", application.namespace, "-f", "-", stdin=yaml.safe_dump_all(wanted))


def refusals(application: Application) -> dict[str, int]:
    """Return how often each kind of owner was refused."""
    counts: dict[str, int] = {}
    for event in application.objects("v1", "events", fieldSelector="reason=FailedCreate"):
        kind = event["involvedObject"]["kind"]
        counts[kind] = counts.get(kind, 0) + event.get("count", 1)
    return counts


def await_refusals(application: Application, times: int) -> None:
    """Wait until every owner was refused so often, and assert that no pod exists."""

    def probe() -> bool:
        counts = refusals(application)
        return all(counts.get(owner, 0) >= (3 if owner == "Job" else times) for owner in OWNERS)

    until(f"{times} refusals of each owner", probe)
    assert [pod for kind in MAKERS for pod in application.pods(kind.name)] == []


def wakeups(installation: Installation) -> float:
    """Return how often the controller has woken an owner of any application."""
    lines = installation.metrics("controller").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(WAKEUPS))


def logged_wakeups(installation: Installation, application: Application) -> int:
    """Return how often the controller has logged that it woke an owner of the application."""
    lines = installation.log("controller").splitlines()
    return sum("owner.woken" in line and application.namespace in line for line in lines)


def woken(application: Application) -> dict[str, str]:
    """Return when each owner was last woken."""
    return {
        kind: item["metadata"]["annotations"]["ledgergate.dev/released-at"]
        for kind, version in OWNERS.items()
        for item in application.objects(version, f"{kind.lower()}s")
        if "ledgergate.dev/released-at" in item["metadata"].get("annotations", {})
    }


def satisfied(application: Application) -> bool:
    """Return whether the status of every owner counts all its pods; an owner without a lack must not be woken."""
    return all(
        item["status"].get(field, 0) >= pods
        for kind, (field, pods) in COUNTED.items()
        for item in application.objects(OWNERS[kind], f"{kind.lower()}s")
    )


def await_pods(application: Application, state: str) -> None:
    """Wait until every workload has all its pods, held or running."""
    seen = application.held if state == "held" else application.running
    for kind in MAKERS:
        # An ordered StatefulSet makes its second pod when the first one runs.
        wanted = 1 if state == "held" and kind.kind == "StatefulSet" else kind.pods
        until(
            f"{wanted} {state} pods of {kind.name}",
            lambda kind=kind, wanted=wanted: len(seen(kind.name)) == wanted,  # type: ignore[misc]
        )


def test_owners_are_woken_by_the_ledger_and_left_alone_before(
    application: Application, installation: Installation, database: str, migrations: Path
) -> None:
    """While the ledger is behind no owner is woken; the commit wakes each of them long before its next retry."""
    application.opt_in(database, onBehind="Deny")
    apply(application)
    await_refusals(application, 1)
    assert woken(application) == {}
    migrate(migrations, database, "--to", FIRST)
    # The ledger has changed and is read again, but still lacks what they need.
    until("the status to follow", lambda: application.status()["head"] == FIRST)
    await_refusals(application, 11)  # the next try of a ReplicaSet comes 10 s after the last
    assert woken(application) == {}
    before = wakeups(installation)
    migrate(migrations, database)
    await_pods(application, "running")
    assert set(woken(application)) == set(OWNERS)
    assert len(MAKERS) <= logged_wakeups(installation, application) <= 2 * len(MAKERS)
    assert wakeups(installation) - before >= len(MAKERS)
    # They have all their pods, and their statuses say so: a change that wakes another owner leaves them alone.
    until("statuses without a lack", lambda: satisfied(application))
    application.deploy("later", "20990101000000_unknown")
    until("its refusal", lambda: refusals(application).get("ReplicaSet", 0) >= 1 and not application.pods("later"))
    stamps = woken(application)
    application.gate(onBehind="Hold")
    application.await_held("later")
    assert {kind: stamps[kind] for kind in ("StatefulSet", "DaemonSet", "Job")}.items() <= woken(application).items()


def test_owners_are_woken_by_another_policy(application: Application, database: str) -> None:
    """Deny becomes Hold: the pods are created, held."""
    application.opt_in(database, onBehind="Deny")
    apply(application)
    await_refusals(application, 4)
    application.gate(onBehind="Hold")
    await_pods(application, "held")
    assert set(woken(application)) == set(OWNERS)


def test_owners_are_woken_by_the_gates_end(application: Application, database: str) -> None:
    """Without the gate, the pods that it denied are created, and held for the time in which another gate may come."""
    application.opt_in(database, onBehind="Deny")
    # Owners that never had a pod: a Job whose pod was deleted counts a failure, and waits 10 s even if it is woken.
    apply(application)
    await_refusals(application, 4)
    assert woken(application) == {}
    application.plane.kubectl("delete", "ledgergate", "app", "-n", application.namespace)
    await_pods(application, "held")
    assert set(woken(application)) == set(OWNERS)
