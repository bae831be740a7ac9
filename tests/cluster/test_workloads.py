"""What `kubectl apply` of a Deployment, StatefulSet, ... says of its pods, and when it says nothing."""

import json
from pathlib import Path
from typing import Any

from testbed.cluster.application import FIRST, SECOND, THIRD, Application, migrate
from testbed.cluster.installation import Installation
from testbed.waiting import until

KINDS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob")


def workload(kind: str, revision: str, **spec: Any) -> dict[str, Any]:
    """Return a workload named `gateway` whose pods expect a revision."""
    labels = {"app": f"gateway-{kind.lower()}", "guarded": "true"}
    template: dict[str, Any] = {
        "metadata": {"labels": labels, "annotations": {"ledgergate.dev/revision": revision}},
        "spec": {"containers": [{"name": "main", "image": "app"}]},
    }
    if "Job" in kind:
        template["spec"]["restartPolicy"] = "Never"
        body = {"template": template}
        whole = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": body}} if kind == "CronJob" else body
        group = "batch"
    else:
        service = {"serviceName": "gateway"} if kind == "StatefulSet" else {}
        whole = {"selector": {"matchLabels": {"app": labels["app"]}}, "template": template, **service}
        group = "apps"
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": "gateway"}, "spec": whole | spec}


def apply(application: Application, subject: dict[str, Any], *flags: str) -> list[str]:
    """Apply with kubectl, and return the lines that it prints."""
    command = ("apply", "-n", application.namespace, "-f", "-", *flags)
    return application.plane.kubectl(*command, stdin=json.dumps(subject), check=False).splitlines()


def warnings(lines: list[str]) -> list[str]:
    found = [line.removeprefix("Warning: ") for line in lines if line.startswith("Warning: ")]
    assert all(len(line) <= 120 for line in found)
    return found


def calls(installation: Installation) -> float:
    """Return how often the API server has asked about a workload."""
    lines = installation.metrics("webhook").splitlines()
    wanted = 'ledgergate_admission_duration_seconds_count{webhook="workload.ledgergate.dev"}'
    return sum(float(line.split()[-1]) for line in lines if line.startswith(wanted))


def test_every_kind_is_warned_of_at_apply(behind: Application, database: str, tmp_path: Path) -> None:
    """One sentence: which pods, which ledger, where it is and what the image expects; none once it is there."""
    for kind in KINDS:
        said = apply(behind, workload(kind, THIRD), "--dry-run=server")
        assert warnings(said) == [
            f"pods of {kind.lower()}/gateway will be held: ledger app is at {FIRST}, the image expects {THIRD}"
        ], said
        assert any(line.endswith("created (server dry run)") for line in said)
    migrate(tmp_path / "migrations", database)
    for kind in KINDS:
        # The webhook knows of the migration when the controller has read it and written the gate's status.
        until("no warning", lambda: warnings(apply(behind, workload(kind, THIRD), "--dry-run=server")) == [])  # noqa: B023


def test_only_what_changes_pods_is_asked_about(behind: Application, installation: Installation) -> None:
    """Applying again, scaling, pausing, status, and the ReplicaSet of a Deployment cost no call and no warning."""
    before = calls(installation)
    assert len(warnings(apply(behind, workload("Deployment", THIRD, replicas=2)))) == 1
    until("the pods", lambda: len(behind.held("gateway-deployment")) == 2)
    deployment = ("deployment/gateway", "-n", behind.namespace)
    for command in (
        ("scale", "--replicas=3", *deployment),
        ("annotate", *deployment, "a=b"),
        ("rollout", "pause", *deployment),
        ("rollout", "resume", *deployment),
        ("autoscale", "--min=1", "--max=3", *deployment),
    ):
        assert "Warning" not in behind.plane.kubectl(*command, check=False)
    assert warnings(apply(behind, workload("Deployment", THIRD, replicas=1))) == []
    until("the scaling", lambda: len(behind.held("gateway-deployment")) == 1)
    assert calls(installation) == before + 1
    restarted = behind.plane.kubectl("rollout", "restart", *deployment, check=False)
    assert "Warning: pods of deployment/gateway will be held" in restarted
    assert calls(installation) == before + 2


def test_the_loss_of_running_pods_is_warned_of(behind: Application) -> None:
    """An update that removes first warns of that too; a rolling one keeps what runs."""
    for kind, spec in (
        ("Deployment", {"strategy": {"type": "Recreate"}}),
        ("StatefulSet", {}),
        ("DaemonSet", {}),
        ("ReplicaSet", {}),
    ):
        assert warnings(apply(behind, workload(kind, FIRST, **spec))) == []
        said = warnings(apply(behind, workload(kind, SECOND, **spec), "--dry-run=server"))
        taken = f"this update takes running pods of {kind.lower()}/gateway away, and their successors will be held"
        assert said[1:] == ([] if kind == "ReplicaSet" else [taken])


def test_a_gate_may_refuse_the_workload(
    behind: Application, installation: Installation, database: str, tmp_path: Path
) -> None:
    """`onBehindWorkload: Deny` refuses what would not start, so that no running pod is taken away for it."""
    apply(behind, workload("StatefulSet", FIRST))
    behind.gate(onBehindWorkload="Deny")

    def refused() -> str:
        said = "\n".join(apply(behind, workload("StatefulSet", THIRD), "--dry-run=server"))
        return said if "denied the request" in said else ""

    said = until("the policy to count", refused)
    assert 'admission webhook "workload.ledgergate.dev" denied the request' in said
    assert f"pods of statefulset/gateway would be held: ledger app is at {FIRST}, the image expects {THIRD}" in said
    assert "(onBehindWorkload of LedgerGate app is Deny)" in said
    assert "denied" not in "\n".join(apply(behind, workload("StatefulSet", FIRST, replicas=2)))
    migrate(tmp_path / "migrations", database)
    until("no warning", lambda: warnings(apply(behind, workload("StatefulSet", THIRD), "--dry-run=server")) == [])
    assert warnings(apply(behind, workload("StatefulSet", THIRD))) == []
    installation.kill("webhook")
    assert apply(behind, workload("Deployment", "20270101000000_none"))[-1].endswith("created"), "refused by an outage"
