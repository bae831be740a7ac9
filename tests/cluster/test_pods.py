"""What admission makes of single pods: gates of others, readiness gates, dry runs, bound pods and mirror pods."""

import json
from pathlib import Path
from typing import Any

from testbed.cluster.application import FIRST, GATE, THIRD, Application, migrate
from testbed.cluster.installation import Installation
from testbed.waiting import until

OTHER = {"name": "example.com/quota"}
KUBELET = ("--as=system:node:node-0", "--as-group=system:nodes")


def pod(name: str, revision: str = THIRD, *, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    declared = {"ledgergate.dev/revision": revision, **(annotations or {})}
    metadata = {"name": name, "labels": {"app": name, "guarded": "true"}, "annotations": declared}
    containers = [{"name": "main", "image": "app"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers, **spec}}


def create(application: Application, subject: dict[str, Any], *flags: str) -> str:
    """Create a pod, and return the output of kubectl."""
    command = ("create", "-n", application.namespace, "-f", "-", *flags)
    return application.plane.kubectl(*command, stdin=json.dumps(subject), check=False)


def find(application: Application, name: str) -> dict[str, Any]:
    (found,) = application.pods(name)
    return found


def gates(found: dict[str, Any]) -> list[str]:
    return [gate["name"] for gate in found["spec"].get("schedulingGates", [])]


def test_kubectl_warns_that_the_pod_is_held(behind: Application) -> None:
    """`kubectl create` of a pod that will be held prints a warning with the reason."""
    said = create(behind, pod("held"))
    assert f"Warning: ledger app is at {FIRST}, the pod expects {THIRD}: the pod is held until it is applied" in said
    assert "created" in said


def test_other_tools_gates_stay(behind: Application, database: str, tmp_path: Path) -> None:
    """The gate of ledgergate is added and removed beside another tool's, whatever the verdict."""
    create(behind, pod("good", FIRST, schedulingGates=[OTHER]))
    assert gates(find(behind, "good")) == [OTHER["name"]]
    create(behind, pod("held", schedulingGates=[OTHER]))
    assert sorted(gates(find(behind, "held"))) == sorted([OTHER["name"], GATE])
    migrate(tmp_path / "migrations", database)
    until("the release", lambda: gates(find(behind, "held")) == [OTHER["name"]])


def test_readiness_gates_are_there_from_the_start(behind: Application) -> None:
    """`readiness: Latch` adds one to every pod that the gate selects, held or not, bound or not; Audit adds none."""
    behind.gate(readiness="Latch")
    behind.gate("second", readiness="Live")
    behind.gate("audited", readiness="Live", mode="Audit")
    theirs = {"conditionType": "example.com/ready"}

    def conditions(name: str, revision: str, **spec: Any) -> list[str]:
        create(behind, pod(name, revision, readinessGates=[theirs], **spec))
        found = find(behind, name)
        assert found["metadata"]["labels"].get("ledgergate.dev/gated") == "true"
        return [gate["conditionType"] for gate in found["spec"]["readinessGates"]]

    numbers = iter(range(100))
    wanted = ["example.com/ready", "ledgergate.dev/app", "ledgergate.dev/second"]
    until("the policy to count", lambda: _added(behind, f"probe-{next(numbers)}") == len(wanted) - 1)
    assert sorted(conditions("held", THIRD)) == wanted
    assert GATE in gates(find(behind, "held"))
    assert sorted(conditions("good", FIRST)) == wanted
    assert gates(find(behind, "good")) == []
    assert sorted(conditions("bound", FIRST, nodeName="node-0")) == wanted


def _added(application: Application, name: str) -> int:
    created = json.loads(_json(create(application, pod(name, FIRST), "--dry-run=server", "-o", "json")))
    return len(created["spec"].get("readinessGates", []))


def _json(said: str) -> str:
    return said[said.index("{") : said.rindex("}") + 1]


def test_a_dry_run_shows_what_would_be_and_counts_as_nothing(behind: Application, installation: Installation) -> None:
    """`--dry-run=server` is answered like the real thing, and no metric says that a pod was held."""

    def held() -> list[str]:
        lines = installation.metrics("webhook").splitlines()
        return [line for line in lines if 'outcome="held"' in line and "_total{" in line]

    before = held()
    said = create(behind, pod("dry"), "--dry-run=server", "-o", "json")
    assert gates(json.loads(_json(said))) == [GATE]
    assert "Warning: ledger app is at" in said
    assert behind.pods("dry") == []
    assert held() == before
    assert 'outcome="dry-run"' in installation.metrics("webhook")


def test_a_mirror_pod_passes_only_from_a_kubelet(behind: Application) -> None:
    """A mirror pod only shows what a node already runs, and is not judged; the annotation alone opens nothing."""
    binding = "clusterrolebinding", f"test-kubelets-{behind.namespace}"
    behind.plane.kubectl("create", *binding, "--clusterrole=system:node", "--group=system:nodes")
    mirror = pod("static-node-0", annotations={"kubernetes.io/config.mirror": "0123"}, nodeName="node-0")
    try:
        refused = create(behind, mirror)
        assert "denied the request" in refused
        assert "spec.nodeName is set" in refused
        assert "created" in create(behind, mirror, *KUBELET)
    finally:
        behind.plane.kubectl("delete", *binding)


def test_the_warnings_of_every_gate_are_shown(behind: Application) -> None:
    """With several gates, the warnings of all of them are shown, not only the strictest's."""
    behind.gate("second", onBehind="Warn")
    behind.gate("third", mode="Audit")
    until("every gate's ledger", lambda: all(behind.status(name).get("head") for name in ("second", "third")))

    def warned() -> str:
        said = create(behind, pod("held"), "--dry-run=server")
        return said if said.count("Warning: ") >= 3 else ""

    said = until("the webhook to know them", warned)
    assert f"Warning: audit only: ledger third is at {FIRST}" in said
    assert f"Warning: ledger second is at {FIRST}" in said
    assert f"Warning: ledger app is at {FIRST}" in said
