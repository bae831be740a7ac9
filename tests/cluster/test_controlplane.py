"""The control plane starts, plays pods as a kubelet would, survives its API server, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from testbed.controlplane import ControlPlane, ControlPlaneError
from testbed.controlplane import plane as plane_module
from testbed.controlplane.processes import free_ports
from testbed.waiting import until

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: web}]
"""
POD_WITH_INIT = """
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  initContainers: [{name: migrate, image: app}, {name: second, image: app}]
  containers: [{name: app, image: app}]
"""
POD_WITH_READINESS_GATE = """
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  readinessGates: [{conditionType: example.org/fed}]
  containers: [{name: app, image: app}]
"""
POD_HELD = """
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  schedulingGates: [{name: example.org/hold}]
  containers: [{name: app, image: app}]
"""
JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    metadata: {annotations: {test.ledgergate.dev/exit: "0"}}
    spec:
      restartPolicy: Never
      containers: [{name: once, image: app}]
"""
READER = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader}]
"""
# Run by the test that kills it: a plane that says where it is and then does nothing.
OWNER = """
import sys, pathlib, time
from testbed.controlplane import ControlPlane
with ControlPlane(pathlib.Path(sys.argv[1])) as plane:
    print(plane.logs.parent, flush=True)
    time.sleep(300)
"""
CHECKOUT = Path(__file__).parents[2]


def apply(plane: ControlPlane, namespace: str, manifest: str) -> None:
    """Apply a manifest in a namespace."""
    plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest)


def wait_for_pod(plane: ControlPlane, namespace: str, path: str, value: str) -> dict[str, Any]:
    """Wait until a field of the pod `app` has a value; returns the pod."""
    plane.kubectl("wait", "-n", namespace, f"--for=jsonpath={{{path}}}={value}", "pod/app", "--timeout=50s")
    pod: dict[str, Any] = json.loads(plane.kubectl("get", "pod", "app", "-n", namespace, "-o", "json"))
    return pod


def conditions(pod: dict[str, Any]) -> dict[str, str]:
    """The conditions of a pod by type."""
    return {condition["type"]: condition["status"] for condition in pod["status"]["conditions"]}


def processes_of(directory: Path) -> list[int]:
    """Every process whose command line names a plane's directory."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if str(directory) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def test_deployment_runs(plane: ControlPlane, namespace: str) -> None:
    """A Deployment's pods are scheduled on the node, run and are Ready, and go when they are deleted."""
    apply(plane, namespace, DEPLOYMENT)
    plane.kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=50s")
    pods = json.loads(plane.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
    assert [(pod["status"]["phase"], pod["spec"]["nodeName"]) for pod in pods] == [("Running", "node-0")] * 3
    plane.kubectl("delete", "deployment", "web", "-n", namespace, "--cascade=foreground", "--timeout=50s")
    assert plane.kubectl("get", "pods", "-n", namespace, "-o", "name") == ""


def test_kubelet_is_quick(plane: ControlPlane, namespace: str) -> None:
    """Between a pod's creation and its running lies less than a second."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    container = {"name": "app", "image": "app"}
    start = time.monotonic()
    plane.api.create(pods, {"metadata": {"name": "app"}, "spec": {"containers": [container]}})
    until("it to run", lambda: plane.api.get(f"{pods}/app")["status"].get("phase") == "Running")
    assert time.monotonic() - start < 1.0


def test_held_pod_is_left_alone(plane: ControlPlane, namespace: str) -> None:
    """A pod with a scheduling gate gets no node; without the gate it runs."""
    apply(plane, namespace, POD_HELD)
    pod = wait_for_pod(plane, namespace, ".status.conditions[0].reason", "SchedulingGated")
    assert "nodeName" not in pod["spec"]
    patch = '[{"op": "remove", "path": "/spec/schedulingGates/0"}]'
    plane.kubectl("patch", "pod", "app", "-n", namespace, "--type=json", "-p", patch)
    wait_for_pod(plane, namespace, ".status.phase", "Running")


def test_init_container_waits_for_the_test(plane: ControlPlane, namespace: str) -> None:
    """The first init container runs and the pod stays uninitialised until a test says that it is done."""
    apply(plane, namespace, POD_WITH_INIT)
    pod = wait_for_pod(plane, namespace, ".status.initContainerStatuses[0].started", "true")
    first, second = pod["status"]["initContainerStatuses"]
    assert "running" in first["state"]
    assert second["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert pod["status"]["phase"] == "Pending"
    assert conditions(pod) | {"Initialized": "False", "Ready": "False"} == conditions(pod)
    plane.kubectl("annotate", "pod", "app", "-n", namespace, "test.ledgergate.dev/init=done")
    pod = wait_for_pod(plane, namespace, ".status.phase", "Running")
    assert conditions(pod) | {"Initialized": "True", "Ready": "True"} == conditions(pod)
    ends = [status["state"]["terminated"]["exitCode"] for status in pod["status"]["initContainerStatuses"]]
    assert ends == [0, 0]


def test_init_container_fails_and_is_restarted(plane: ControlPlane, namespace: str) -> None:
    """A failed init container has ended with 1; with the annotation taken off it runs again, counted."""
    apply(plane, namespace, POD_WITH_INIT)
    wait_for_pod(plane, namespace, ".status.initContainerStatuses[0].started", "true")
    plane.kubectl("annotate", "pod", "app", "-n", namespace, "test.ledgergate.dev/init=failed")
    pod = wait_for_pod(plane, namespace, ".status.initContainerStatuses[0].state.terminated.exitCode", "1")
    assert pod["status"]["phase"] == "Pending"
    plane.kubectl("annotate", "pod", "app", "-n", namespace, "test.ledgergate.dev/init-")
    pod = wait_for_pod(plane, namespace, ".status.initContainerStatuses[0].restartCount", "1")
    first = pod["status"]["initContainerStatuses"][0]
    assert "running" in first["state"]
    assert first["lastState"]["terminated"]["exitCode"] == 1
    plane.kubectl("annotate", "pod", "app", "-n", namespace, "test.ledgergate.dev/init=done")
    pod = wait_for_pod(plane, namespace, ".status.phase", "Running")
    assert pod["status"]["initContainerStatuses"][0]["restartCount"] == 1


def test_readiness_gates_decide_ready(plane: ControlPlane, namespace: str) -> None:
    """A pod with a readiness gate is Ready while, and only while, somebody says so."""
    apply(plane, namespace, POD_WITH_READINESS_GATE)
    pod = wait_for_pod(plane, namespace, ".status.phase", "Running")
    assert conditions(pod)["Ready"] == "False"
    for value in ("True", "False"):
        patch = {"status": {"conditions": [{"type": "example.org/fed", "status": value}]}}
        plane.kubectl("patch", "pod", "app", "-n", namespace, "--subresource=status", "-p", json.dumps(patch))
        plane.kubectl("wait", "-n", namespace, f"--for=condition=Ready={value}", "pod/app", "--timeout=50s")


@pytest.mark.parametrize(("code", "condition"), [("0", "Complete"), ("3", "Failed")])
def test_job_ends_as_annotated(plane: ControlPlane, namespace: str, code: str, condition: str) -> None:
    """A Job whose pods carry an exit code ends with it."""
    apply(
        plane,
        namespace,
        JOB.replace('"0"', f'"{code}"').replace("spec:\n  template", "spec:\n  backoffLimit: 0\n  template"),
    )
    plane.kubectl("wait", "-n", namespace, f"--for=condition={condition}", "job/once", "--timeout=50s")


def test_service_account_has_its_own_rights(plane: ControlPlane, namespace: str) -> None:
    """A kubeconfig of a service account may what its role says and nothing else."""
    apply(plane, namespace, READER)
    kubeconfig = plane.kubeconfig_for(namespace, "reader")
    assert plane.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", kubeconfig=kubeconfig) == (
        f"system:serviceaccount:{namespace}:reader"
    )
    plane.kubectl("get", "pods", kubeconfig=kubeconfig)
    with pytest.raises(ControlPlaneError, match="cannot list resource"):
        plane.kubectl("get", "secrets", kubeconfig=kubeconfig)


def test_api_and_kubectl_are_one_user(plane: ControlPlane, namespace: str) -> None:
    """What one has applied the other goes on with, without a conflict; a refusal says what the server said."""
    manifest = "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: shared, namespace: {}}}, data: {{key: {}}}}}"
    plane.api.apply(manifest.format(namespace, "one"))
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=manifest.format(namespace, "two"))
    plane.api.apply(manifest.format(namespace, "three"))
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    assert plane.api.get(f"{maps}/shared")["data"] == {"key": "three"}
    with pytest.raises(ControlPlaneError, match='404, configmaps "missing" not found'):
        plane.api.get(f"{maps}/missing")


def test_node_is_added(plane: ControlPlane) -> None:
    """Another node is Ready with its labels."""
    plane.add_node("node-zone-b", **{"topology.kubernetes.io/zone": "b"})
    labels = json.loads(plane.kubectl("get", "node", "node-zone-b", "-o", "jsonpath={.metadata.labels}"))
    assert labels["topology.kubernetes.io/zone"] == "b"
    plane.kubectl("delete", "node", "node-zone-b")


def test_planes_side_by_side_leave_nothing(programs: Path, plane: ControlPlane) -> None:
    """A second plane knows nothing of the first; stopped, it has no process and no directory left."""
    with ControlPlane(programs, nodes=("other",)) as second:
        assert second.kubectl("get", "nodes", "-o", "name") == "node/other\n"
        assert plane.kubectl("get", "node", "other", "--ignore-not-found") == ""
        directory = second.logs.parent
        assert len(processes_of(directory)) > 5
    assert processes_of(directory) == []
    assert not directory.exists()


def test_apiserver_killed_keeps_data(programs: Path) -> None:
    """An API server that was killed, or paused, comes back at its address with what was written."""
    with ControlPlane(programs) as own:
        own.kubectl("create", "configmap", "kept", "--from-literal=key=value")
        own.kill_apiserver()
        with pytest.raises(ControlPlaneError, match="refused"):
            own.kubectl("get", "configmap", "kept")
        own.start_apiserver()
        assert own.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.key}") == "value"
        own.pause_apiserver()
        with pytest.raises(ControlPlaneError):
            own.kubectl("get", "configmap", "kept", timeout=1)
        own.resume_apiserver()
        own.kubectl("get", "configmap", "kept")
        apply(own, "default", DEPLOYMENT)
        own.kubectl("rollout", "status", "deployment/web", "--timeout=30s", timeout=40)


def test_killed_run_leaves_nothing(programs: Path) -> None:
    """A test run that is killed by SIGKILL leaves no process and no directory."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, programs], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as run:
        assert run.stdout is not None
        directory = Path(run.stdout.readline().strip())
        assert len(processes_of(directory)) > 5
        os.kill(run.pid, signal.SIGKILL)
    until("nothing left", lambda: not processes_of(directory) and not directory.exists())


def test_start_command_runs_until_interrupted(programs: Path) -> None:
    """`start` says how to reach the plane, and Ctrl-C ends it without a trace."""
    command = [sys.executable, "-m", "testbed.controlplane", "start"]
    environment = os.environ | {"KUBEBUILDER_ASSETS": str(programs)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, env=environment) as run:
        assert run.stdout is not None
        said = run.stdout.readline()
        assert said.startswith("export KUBECONFIG=")
        kubeconfig = Path(said.split()[1].removeprefix("KUBECONFIG="))
        nodes: list[str | Path] = [
            programs / "kubectl",
            f"--kubeconfig={kubeconfig}",
            f"--cache-dir={kubeconfig.parent}",
            "get",
            "nodes",
        ]
        assert b"node-0" in subprocess.run(nodes, check=True, capture_output=True).stdout
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 0
    assert processes_of(kubeconfig.parent) == []
    assert not kubeconfig.parent.exists()


def test_lost_port_race_is_run_again(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that somebody took after it was chosen costs another start, not the plane."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        taken = somebody.getsockname()[1]
        choices = iter([[*free_ports(2), taken]])
        monkeypatch.setattr(plane_module, "free_ports", lambda count: next(choices, None) or free_ports(count))
        with ControlPlane(programs) as own:
            assert not own.server.endswith(f":{taken}")
            assert next(choices, None) is None


def test_failed_start_shows_the_log(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ends by itself is named with the end of its log, and nothing is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    broken = tmp_path / "programs"
    broken.mkdir()
    for program in programs.iterdir():
        (broken / program.name).symlink_to(program)
    (broken / "kube-apiserver").unlink()
    (broken / "kube-apiserver").write_text("#!/bin/sh\necho no such flag >&2\nexit 7\n")
    (broken / "kube-apiserver").chmod(0o755)
    with pytest.raises(ControlPlaneError, match=r"(?s)kube-apiserver ended by itself with code 7.*no such flag"):
        ControlPlane(broken).start()
    assert list(tmp_path.iterdir()) == [broken]
