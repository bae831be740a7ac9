"""`ledgergate check` asks the real guard, and changes nothing."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from testbed.cluster.application import FIRST, LEDGERGATE, THIRD, Application, migrate
from testbed.waiting import until


def check(application: Application, *arguments: str, manifests: Any = None) -> tuple[int, str]:
    """Run the command and return its exit code and all that it printed."""
    done = subprocess.run(
        [LEDGERGATE, "check", "-n", application.namespace, "--kubeconfig", application.plane.kubeconfig, *arguments],
        check=False,
        input=None if manifests is None else yaml.safe_dump_all(manifests),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def deployment(revision: str, **annotations: str) -> dict[str, Any]:
    declared = {"revision": revision, **annotations}
    template = {
        "metadata": {
            "labels": {"app": "gateway", "guarded": "true"},
            "annotations": {f"ledgergate.dev/{name}": text for name, text in declared.items()},
        },
        "spec": {"containers": [{"name": "main", "image": "app"}]},
    }
    spec = {"selector": {"matchLabels": {"app": "gateway"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gateway"}, "spec": spec}


def test_manifests_are_judged_before_they_are_applied(behind: Application) -> None:
    """What the ledger has would start, what it lacks would be held, and no pod is left behind."""
    code, said = check(behind, "-f", "-", manifests=[deployment(FIRST), {"kind": "Service"}])
    assert (code, said) == (0, "deployment/gateway: would start\n")
    code, said = check(behind, "-f", "-", manifests=[deployment(FIRST), deployment(THIRD)])
    assert code == 3
    assert "deployment/gateway: would be held\n  ledger app is at" in said
    assert behind.pods("gateway") == []


def test_a_denial_is_reported(behind: Application) -> None:
    """A pod that would be denied is reported with the webhook's own message."""
    behind.gate(onBehind="Deny")
    until("the policy to count", lambda: check(behind, "-f", "-", manifests=[deployment(THIRD)])[0] == 3)
    until(
        "the denial",
        lambda: "would be denied\n  ledger app" in check(behind, "-f", "-", manifests=[deployment(THIRD)])[1],
    )


def test_a_contract_names_the_pods_that_need_the_old_schema(behind: Application, database: str, tmp_path: Path) -> None:
    """The contract migration's pod would start once they are gone."""
    migrate(tmp_path / "migrations", database)
    until("the ledger to be read", lambda: behind.status().get("head") == THIRD)
    behind.deploy("old", FIRST, replicas=2)
    behind.await_running("old", 2)
    contract = deployment(THIRD, migrates="app", contract=f"20260104_drop:{THIRD}")
    code, said = check(behind, "-f", "-", manifests=[contract])
    assert code == 3
    assert f"2 living of deployment/old expect {FIRST}: needs the old schema" in said
    behind.plane.kubectl("delete", "deployment", "old", "-n", behind.namespace)
    until("the old pods to end", lambda: check(behind, "-f", "-", manifests=[contract])[0] == 0)


def test_a_workload_of_the_cluster_is_asked_by_name(behind: Application) -> None:
    """With another image too; a namespace that is not opted in is reported."""
    behind.deploy("gateway", FIRST, replicas=1)
    assert check(behind, "deployment/gateway", "--image", "app:2")[0] == 0
    assert check(behind, "deployment/gateway", "--image", "other=app:2")[0] == 2
    assert check(behind, "service/gateway")[0] == 2
    assert check(behind, "deployment/missing")[0] == 2
    assert check(behind)[0] == 2
    label = {"metadata": {"labels": {"ledgergate.dev/admission": None}}}
    behind.plane.api.merge(f"/api/v1/namespaces/{behind.namespace}", label)
    code, said = check(behind, "deployment/gateway")
    assert code == 0
    assert "is not opted in" in said
