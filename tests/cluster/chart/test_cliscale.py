"""The mission's application with helm, Knex and PostgreSQL: each operation has its documented result.

`kubelet.runs` are the containers that were really run; their pods' commands, environments and Secrets are the chart's.
"""

import json
import re
import uuid
from datetime import datetime
from pathlib import Path

import pytest

from testbed.cluster.cliscale import (
    BROKEN,
    CHART,
    CONTROLLER,
    CURRENT,
    FIXED,
    NEXT_MIGRATION,
    OLDER,
    Cliscale,
    build_images,
    last_applied_at,
    ledger,
    secret,
)
from testbed.cluster.guard import Guard
from testbed.cluster.helm import Helm, HelmError
from testbed.cluster.kubelet import Kubelet
from testbed.waiting import until

FIRST = "20250110090000_create_workspaces_table.js"
SECOND = "20250118143000_create_sessions_table.js"
THIRD = "20250126120000_add_user_preferences_table.js"
MIGRATION = "app.kubernetes.io/component=migration"


async def test_the_life_cycle_runs_in_order(cliscale: Cliscale) -> None:
    """The Job to its end, then the controller, then the gateway; helm waits for all of it, and the log stays."""
    cliscale.upgrade(CURRENT, "--wait", "--timeout=60s")
    (run,) = cliscale.kubelet.runs
    assert (run.container, run.code) == ("migrate", 0)
    assert await ledger(cliscale.database) == [FIRST, SECOND, THIRD]
    cliscale.await_running("controller", 2, CURRENT)
    cliscale.await_running("gateway", 3, CURRENT)
    created = [
        cliscale.get(what)["metadata"]["creationTimestamp"]
        for what in ("job/cliscale-migrate", "deploy/cliscale-controller", "deploy/cliscale-gateway")
    ]
    assert created == sorted(created)
    assert cliscale.get("job/cliscale-migrate")["status"]["completionTime"] <= created[1]
    assert "Batch 1 run: 3 migrations" in cliscale.kubectl("logs", "-l", MIGRATION, "--tail=100")
    (release,) = cliscale.helm.history("cliscale", cliscale.namespace)
    assert release["status"] == "deployed"


async def test_with_migrations_switched_off_pods_wait_for_the_manual_job(cliscale: Cliscale) -> None:
    """With `migrations.enabled=false` nothing runs; the new pods wait and say for what; the manual Job frees them."""
    cliscale.upgrade(OLDER)
    cliscale.await_running("gateway", 3, OLDER)
    cliscale.upgrade(CURRENT, "--set=migrations.enabled=false")
    (held, *_) = cliscale.await_held("gateway", 1)
    assert cliscale.why(held).startswith(
        f"ledger cliscale is at {SECOND[:-3]}, the pod expects {THIRD[:-3]}: the pod is held until it is applied; "
        "annotation ledgergate.dev/revision counts, since image cliscale/gateway:1.2.0 cannot be read: "
    )
    cliscale.await_held("controller", 1)
    assert len(cliscale.kubelet.runs) == 1
    cliscale.kubectl("create", "job", "--from=cronjob/manual-migrate", "cliscale-migrate-manual")
    cliscale.await_running("gateway", 3, CURRENT)
    cliscale.await_running("controller", 2, CURRENT)
    assert await ledger(cliscale.database) == [FIRST, SECOND, THIRD]


async def test_a_failing_migration_stops_the_deployment(cliscale: Cliscale) -> None:
    """The Job tries as often as it may, helm fails and shows the log, old pods stay; forced, new pods are held.

    The image with the mended migration then goes through like any other.
    """
    cliscale.upgrade(CURRENT)
    cliscale.await_running("gateway", 3, CURRENT)
    broken = "--set=migrations.backoffLimit=1"
    with pytest.raises(HelmError, match="division by zero"):
        cliscale.upgrade(BROKEN, broken)
    assert [run.code for run in cliscale.kubelet.runs] == [0, 1, 1]
    conditions = cliscale.get("job/cliscale-migrate")["status"]["conditions"]
    assert {each["reason"] for each in conditions if each["status"] == "True"} == {"BackoffLimitExceeded"}
    assert cliscale.helm.history("cliscale", cliscale.namespace)[-1]["status"] == "failed"
    assert cliscale.kubectl("logs", "-l", MIGRATION, "--tail=100").count("division by zero") >= 2
    cliscale.await_running("gateway", 3, CURRENT)
    assert await ledger(cliscale.database) == [FIRST, SECOND, THIRD]

    cliscale.upgrade(BROKEN, "--no-hooks", broken)
    (held,) = cliscale.await_held("gateway", 1)
    expected = NEXT_MIGRATION.removesuffix(".js")
    assert f"the pod expects {expected}: the pod is held until it is applied" in cliscale.why(held)

    cliscale.kubectl("delete", "job", "-l", MIGRATION)
    cliscale.upgrade(FIXED)
    cliscale.await_running("gateway", 3, FIXED)
    assert len(cliscale.get("jobs", "-l", MIGRATION)) == 1
    assert await ledger(cliscale.database) == [FIRST, SECOND, THIRD, NEXT_MIGRATION]


async def test_init_containers_bring_the_migrations(cliscale: Cliscale) -> None:
    """Two controllers start at once and apply each migration once; the gateway's pods wait for them."""
    cliscale.upgrade(OLDER, "--set=migrations.mode=initContainer")
    cliscale.await_running("gateway", 3, OLDER)
    cliscale.await_running("controller", 2, OLDER)
    assert [run.code for run in cliscale.kubelet.of("migrate")] == [0, 0]
    assert await ledger(cliscale.database) == [FIRST, SECOND]
    # Not the end of the migrator's process: it comes after the commit, on a busy machine by more than a second.
    recorded = await last_applied_at(cliscale.database)
    started = [pod["status"]["startTime"] for pod in cliscale.pods("gateway")]
    assert all(datetime.fromisoformat(at) >= recorded.replace(microsecond=0) for at in started)


async def test_a_failing_init_container_holds_the_other_pods(cliscale: Cliscale) -> None:
    """The controller tries again and again, with its termination message in its status; the gateway's new pods wait."""
    mode = "--set=migrations.mode=initContainer"
    cliscale.upgrade(OLDER, mode)
    cliscale.await_running("gateway", 3, OLDER)
    cliscale.upgrade(BROKEN, mode)
    cliscale.kubelet.await_run("migrate", count=4)
    (held,) = cliscale.await_held("gateway", 1)
    assert NEXT_MIGRATION.removesuffix(".js") in cliscale.why(held)
    said = cliscale.kubectl("describe", "pods", "-l", "app.kubernetes.io/component=controller")
    assert "division by zero" in said
    assert len([pod for pod in cliscale.pods("gateway") if pod["status"]["phase"] == "Running"]) == 3
    assert await ledger(cliscale.database) == [FIRST, SECOND]


async def test_upgrades_at_the_same_moment(cliscale: Cliscale, guard: Guard) -> None:
    """Of two upgrades of the application one deploys, the other fails with the reason, or succeeds with nothing to do.

    Every migration runs once. ledgergate is upgraded at the same time: all its pods are replaced, and no upgrade fails
    because of that.
    """
    cliscale.upgrade(OLDER)
    before = guard.pods.running()
    platform = guard.start_upgrade("--set-string", "webhook.podAnnotations.c=d,controller.podAnnotations.c=d")
    both = [cliscale.start_upgrade(CURRENT) for _ in range(2)]
    said = [process.communicate(timeout=90)[1] for process in both]
    warned = platform.communicate(timeout=120)[1]
    assert platform.returncode == 0, warned
    refused = [text for process, text in zip(both, said, strict=True) if process.returncode]
    assert len(refused) < len(both), said
    for text in refused:
        assert re.search("another operation .* is in progress|already exists|has been modified", text)
    cliscale.await_running("gateway", 3, CURRENT)
    cliscale.upgrade(CURRENT)
    assert await ledger(cliscale.database) == [FIRST, SECOND, THIRD]
    assert {run.code for run in cliscale.kubelet.runs} == {0}
    guard.await_ready()
    assert not {each.name for each in before} & {each.name for each in guard.pods.running()}


async def test_two_jobs_at_the_same_moment(cliscale: Cliscale) -> None:
    """Where two runs get through, one migrates, the other waits for its lock, and both succeed."""
    cliscale.upgrade(CURRENT, "--set=migrations.enabled=false")
    for name in ("first", "second"):
        cliscale.kubectl("create", "job", "--from=cronjob/manual-migrate", name)
    cliscale.kubelet.await_run("migrate", count=2)
    assert [run.code for run in cliscale.kubelet.runs] == [0, 0]
    assert await ledger(cliscale.database) == [FIRST, SECOND, THIRD]
    cliscale.await_running("gateway", 3, CURRENT)


async def test_going_back(cliscale: Cliscale) -> None:
    """The older image starts on the newer ledger; the rollback Job then undoes the last batch, and new pods wait."""
    cliscale.upgrade(OLDER)
    cliscale.upgrade(CURRENT)
    cliscale.await_running("gateway", 3, CURRENT)
    cliscale.kubectl("create", "job", "--from=cronjob/manual-rollback", "cliscale-migrate-rollback", "--dry-run=client")
    rollback = cliscale.kubectl("get", "cronjob/manual-rollback", "-o", "jsonpath={.spec.jobTemplate.spec}")
    assert json.loads(rollback)["backoffLimit"] == 0
    cliscale.helm("rollback", "cliscale", "1", "-n", cliscale.namespace)
    cliscale.await_running("gateway", 3, OLDER)
    assert await ledger(cliscale.database) == [FIRST, SECOND, THIRD]
    # The older release's CronJob has the older image, which does not know the migration: the newer one's is used.
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "cliscale-migrate-rollback"}}
    cliscale.plane.kubectl(
        "create", "-n", cliscale.namespace, "-f", "-", stdin=json.dumps({**job, "spec": json.loads(rollback)})
    )
    assert cliscale.kubelet.await_run("rollback").code == 0
    assert await ledger(cliscale.database) == [FIRST, SECOND]
    cliscale.kubectl("rollout", "restart", "deployment/cliscale-gateway")
    cliscale.await_running("gateway", 3, OLDER)


@pytest.mark.parametrize(("name", "limit"), [("development", 1), ("staging", 2), ("production", 3)])
async def test_each_environment(cliscale: Cliscale, name: str, limit: int) -> None:
    """Its values file sets Knex's environment, how often the Job is tried, and the proxy beside it."""
    values = CHART / f"values-{name}.yaml"
    port = secret(cliscale.database)["port"]
    cliscale.upgrade(CURRENT, f"--values={values}", f"--set=cloudSqlProxy.port={port}", "--set=ledgerGate.secret=pg")
    run = cliscale.kubelet.await_run("migrate")
    assert (run.code, f"Using environment: {name}" in run.output) == (0, True)
    assert await ledger(cliscale.database) == [FIRST, SECOND, THIRD]
    until("a running gateway", lambda: any(pod["status"]["phase"] == "Running" for pod in cliscale.pods("gateway")))
    spec = cliscale.get("cronjob/manual-migrate")["spec"]["jobTemplate"]["spec"]
    assert spec["backoffLimit"] == limit
    proxies = spec["template"]["spec"].get("initContainers", [])
    assert [proxy["restartPolicy"] for proxy in proxies] == ([] if name == "development" else ["Always"])


async def test_the_chart_alone_makes_what_is_missing(guard: Guard, database: str, tmp_path: Path) -> None:
    """From nothing: namespace, Secret and service account come before the Job; an upgrade and the end leave them be."""
    name = f"ws-cli-{uuid.uuid4().hex[:6]}"
    keys = {"name" if key == "database" else key: value for key, value in secret(database).items()}
    port = f"--set=database.port={keys.pop('port')}"
    create = [
        "--set=database.create=true",
        port,
        *(f"--set-string=database.{key}={value}" for key, value in keys.items()),
    ]
    made = ("namespace/" + name, "secret/pg", f"serviceaccount/{name}-controller")

    images = build_images(tmp_path)
    with Kubelet(guard.plane, name, images) as kubelet:
        cliscale = Cliscale(guard.plane, guard.helm, kubelet, images, name, database, guard.namespace)

        def identities() -> list[str]:
            return [cliscale.get(what)["metadata"]["uid"] for what in made]

        here = f"--set=namespace.name={name},ledgerGate.installedIn={guard.namespace}"
        release = ["cliscale", str(CHART), "--install", *create, here]
        guard.helm("upgrade", *release, f"--set=revision={SECOND}", f"--set=controller.image.tag={OLDER}")
        before = identities()
        until("running pods", lambda: [pod["status"]["phase"] for pod in cliscale.pods("gateway")] == ["Running"] * 3)
        assert cliscale.get(made[0])["metadata"]["labels"]["ledgergate.dev/admission"] == "enabled"
        guard.helm("upgrade", *release, f"--set=revision={THIRD}")
        assert await ledger(database) == [FIRST, SECOND, THIRD]
        guard.helm("uninstall", "cliscale", "--wait")
        assert identities() == before
    guard.plane.kubectl("delete", "namespace", name, "--wait=false")


async def test_a_job_without_ledgergate(cliscale: Cliscale) -> None:
    """A user's own Job that knows nothing of ledgergate runs: no label, no annotation, plain Knex, OnFailure."""
    environment = [
        {"name": f"DB_{name}", "valueFrom": {"secretKeyRef": {"name": "pg", "key": key}}}
        for name, key in (("NAME", "database"), ("USER", "username"), ("PASSWORD", "password"))
    ]
    address = secret(cliscale.database)
    environment += [{"name": "DB_HOST", "value": address["host"]}, {"name": "DB_PORT", "value": address["port"]}]
    container = {
        "name": "migrate",
        "image": f"{CONTROLLER}:{CURRENT}",
        "command": ["npm", "run", "migrate:latest"],
        "env": [*environment, {"name": "NODE_ENV", "value": "production"}],
    }
    spec = {"template": {"spec": {"restartPolicy": "OnFailure", "containers": [container]}}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "cliscale-migrate-manual"}, "spec": spec}
    cliscale.plane.kubectl("apply", "-n", cliscale.namespace, "-f", "-", stdin=json.dumps(job))
    cliscale.kubectl("wait", "--for=condition=Complete", "job/cliscale-migrate-manual", "--timeout=120s")
    assert await ledger(cliscale.database) == [FIRST, SECOND, THIRD]


def test_the_older_name_of_the_environment(helm: Helm) -> None:
    """`migrations.knexEnv`, as the mission's commands have it, makes of the chart what `environment` does."""
    older, newer = (
        helm("template", "cliscale", str(CHART), f"--set=migrations.{name}=staging")
        for name in ("knexEnv", "environment")
    )
    assert "{name: NODE_ENV, value: staging}" in older
    assert older == newer


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("migrations.mode=sidecar", "migrations/mode"),
        ("migrations.knexEnv=prod", "migrations/knexEnv"),
        ("migrations.backofLimit=1", "backofLimit"),
        ("revision=a b", "revision"),
        ("cloudSqlProxy.enabled=true", "cloudSqlProxy/instance"),
        ("database.create=true", "database/host"),
    ],
)
def test_wrong_values_are_refused(helm: Helm, flag: str, complaint: str) -> None:
    """Helm refuses an invalid value and names it, before anything is created."""
    with pytest.raises(HelmError, match=complaint):
        helm("template", "cliscale", str(CHART), "--set", flag)
