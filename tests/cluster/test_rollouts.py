"""A rollout of each kind of workload ends by itself once its migration is there, however it was kept waiting."""

import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import yaml

from testbed.cluster.application import FIRST, REVISION, SECOND, THIRD, Application, migrate, write_migrations
from testbed.cluster.pod_watch import PodWatch
from testbed.ledger_times import last_commit
from testbed.waiting import until
from tests.cluster.workloads import KINDS, RELEASE, Kind, manifest

log = logging.getLogger(__name__)

LIMIT = 3.0
"""Seconds from the migration's commit until the last pod runs, beyond what the cluster itself takes for the rollout."""

REFUSED_FOR = 90.0
"""Seconds of refusals, after which the owners' next retry would be more than a minute away (5 ms · 2ⁿ)."""


def apply(application: Application, kinds: Sequence[Kind], release: str, revision: str) -> None:
    """Apply a release of each workload at once."""
    manifests = [manifest(kind, release, revision) for kind in kinds]
    application.plane.kubectl("apply", "-n", application.namespace, "-f", "-", stdin=yaml.safe_dump_all(manifests))


def finished(watch: PodWatch, kind: Kind, release: str) -> float | None:
    """Return when as many pods of a release ran as its workload wants; None while they do not."""
    first: dict[str, float] = {}
    for sight in watch.sights:
        if sight.labels.get("app") == kind.name and sight.labels.get(RELEASE) == release and sight.phase == "Running":
            first.setdefault(sight.name, sight.at)
    return max(first.values()) if len(first) >= kind.pods else None


def await_finished(watch: PodWatch, release: str, kinds: Sequence[Kind] = KINDS) -> dict[str, float]:
    """Wait until every workload runs a release; return when each did."""
    for kind in kinds:
        until(f"{kind.name} to run {release}", partial(finished, watch, kind, release), timeout=180)
    return {kind.name: finished(watch, kind, release) or 0.0 for kind in kinds}


def baseline(application: Application, watch: PodWatch) -> float:
    """Return the seconds that the slowest rollout takes now, on this machine, when it has nothing to wait for."""
    updated = [kind for kind in KINDS if kind.updates]
    apply(application, updated, "old", FIRST)
    await_finished(watch, "old", updated)
    began = time.time()
    apply(application, updated, "middle", SECOND)
    return max(await_finished(watch, "middle", updated).values()) - began


def judge(watch: PodWatch, committed: float, cluster: float) -> None:
    """Assert that no pod of the new release ran early, and that none ran late."""
    delays = {name: round(at - committed, 2) for name, at in await_finished(watch, "new").items()}
    log.info("seconds after the commit: %s; the cluster's own: %.2f", delays, cluster)
    early = [s for s in watch.sights if s.labels.get(RELEASE) == "new" and not s.gated and s.at < committed]
    assert early == []
    assert max(delays.values()) <= LIMIT + cluster, delays


def test_every_kind_of_workload_that_is_held_goes_on(application: Application, database: str, migrations: Path) -> None:
    """Under Hold every rollout waits with its new pods held, and ends within seconds of the migration."""
    migrate(migrations, database, "--to", SECOND)
    application.opt_in(database)
    with PodWatch(application.plane, application.namespace) as watch:
        cluster = baseline(application, watch)
        apply(application, KINDS, "new", THIRD)
        application.plane.kubectl("create", "job", "manual", "--from=cronjob/regular", "-n", application.namespace)
        for kind in KINDS:
            until(f"a held pod of {kind.name}", partial(application.held, kind.name))
        migrate(migrations, database)
        judge(watch, last_commit(database), cluster)


def test_every_kind_of_workload_that_is_denied_is_woken(
    application: Application, database: str, migrations: Path
) -> None:
    """Under Deny, owners whose next retry is more than a minute away still end their rollout within seconds."""
    migrate(migrations, database, "--to", SECOND)
    application.opt_in(database, onBehind="Deny")
    with PodWatch(application.plane, application.namespace) as watch:
        cluster = baseline(application, watch)
        apply(application, KINDS, "new", THIRD)
        refused = time.monotonic()
        until(
            "every kind to be refused", lambda: kinds_refused(application) == {kind.name for kind in KINDS}, timeout=90
        )
        # Time itself is what is tested here: the owners' back-off grows with it.
        until("the back-off to have grown", lambda: time.monotonic() - refused > REFUSED_FOR, timeout=120, pause=1)
        assert [sight for sight in watch.sights if sight.labels.get(RELEASE) == "new"] == []
        migrate(migrations, database)
        judge(watch, last_commit(database), cluster)


def kinds_refused(application: Application) -> set[str]:
    """Return the workloads for which a pod was refused because its ledger is behind."""
    found = application.objects("v1", "events", fieldSelector="reason=FailedCreate")
    refused = [event for event in found if f"the pod expects {THIRD}" in event["message"]]
    return {event["involvedObject"]["name"].partition("-")[0] for event in refused}


def test_an_undo_starts_at_once_unless_a_contract_migration_forbids_it(
    application: Application, database: str, tmp_path: Path
) -> None:
    """Back to a compatible image is never delayed; one that can no longer run is denied, with the migration's name."""
    migrations = write_migrations(tmp_path / "migrations", (FIRST, SECOND))
    contract = f"-- migrate:up contract compatible-from:{SECOND}\ndrop table users;\n"
    (migrations / f"{THIRD}.sql").write_text(contract)
    application.opt_in(database)
    for revision in (FIRST, SECOND, THIRD):
        migrate(migrations, database, "--to", revision)
        application.deploy("gateway", revision, replicas=1)
        application.plane.kubectl("rollout", "status", "deployment/gateway", "-n", application.namespace)
    with PodWatch(application.plane, application.namespace) as watch:
        before = {sight.name for sight in watch.sights}
        undo(application, to=2)
        application.plane.kubectl("rollout", "status", "deployment/gateway", "-n", application.namespace)
        assert [sight for sight in watch.sights if sight.name not in before and sight.gated] == []
    undo(application, to=1)
    message = until("the refusal", lambda: refusal(application))
    assert f"contract migration {THIRD} is applied to ledger app" in message
    assert f"images older than {SECOND} cannot run" in message
    assert len(application.running("gateway")) == 1


def undo(application: Application, *, to: int) -> None:
    application.plane.kubectl(
        "rollout", "undo", "deployment/gateway", f"--to-revision={to}", "-n", application.namespace
    )


def refusal(application: Application) -> str:
    (found,) = application.objects("apps/v1", "deployments")
    conditions = found["status"].get("conditions", ())
    return next((each["message"] for each in conditions if each["type"] == "ReplicaFailure"), "")


def test_set_image_keeps_the_annotation_so_that_pods_start(
    application: Application, database: str, migrations: Path
) -> None:
    """`kubectl set image` leaves the old revision in the annotation: the new image's pods start at once."""
    migrate(migrations, database, "--to", FIRST)
    application.opt_in(database)
    application.deploy("gateway", FIRST)
    old = set(application.await_running("gateway"))
    with PodWatch(application.plane, application.namespace) as watch:
        application.plane.kubectl("set", "image", "deployment/gateway", "main=app:2", "-n", application.namespace)
        application.plane.kubectl("rollout", "status", "deployment/gateway", "-n", application.namespace)
        assert [sight for sight in watch.sights if sight.name not in old and sight.gated] == []
    pods = application.pods("gateway")
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"app:2"}
    assert {pod["metadata"]["annotations"][REVISION] for pod in pods} == {FIRST}


def test_a_held_pod_of_an_undone_stateful_set_is_replaced_once_it_is_deleted(
    application: Application, database: str, migrations: Path
) -> None:
    """The StatefulSet controller does not replace a pod that was never ready: it stays held until it is deleted."""
    (kind,) = (kind for kind in KINDS if kind.kind == "StatefulSet")
    migrate(migrations, database, "--to", FIRST)
    application.opt_in(database)
    apply(application, [kind], "old", FIRST)
    application.await_running(kind.name, kind.pods)
    apply(application, [kind], "new", SECOND)
    (held,) = until("a held pod", lambda: application.held(kind.name))
    application.plane.kubectl("rollout", "undo", f"statefulset/{kind.name}", "-n", application.namespace)
    until("the undo to be observed", lambda: undone(application, kind.name))
    assert application.held(kind.name) == [held]
    application.plane.kubectl("delete", "pod", held, "-n", application.namespace)
    application.await_running(kind.name, kind.pods)
    assert {pod["metadata"]["labels"][RELEASE] for pod in application.pods(kind.name)} == {"old"}


def undone(application: Application, name: str) -> bool:
    """Return whether the StatefulSet controller has acted on the newest specification and wants its first revision."""
    (found,) = (each for each in application.objects("apps/v1", "statefulsets") if each["metadata"]["name"] == name)
    status = found["status"]
    return bool(
        status["observedGeneration"] == found["metadata"]["generation"] == 3
        and status["updateRevision"] == status["currentRevision"]
    )
