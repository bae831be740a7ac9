"""The tests' own kubelet does what a real one does: otherwise the tests that use it would show nothing."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.cluster.container import ConfigurationError, Image, command, environment
from testbed.cluster.kubelet import Kubelet
from testbed.controlplane import ControlPlane
from testbed.waiting import until


@pytest.fixture
def kubelet(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Kubelet]:
    with Kubelet(plane, namespace, {"app": Image(tmp_path)}) as started:
        yield started


def job(script: str, *, restart: str = "Never", limit: int = 0, init: str | None = None) -> str:
    spec: dict[str, Any] = {
        "restartPolicy": restart,
        "containers": [{"name": "main", "image": "app", "command": ["sh", "-c", script]}],
    }
    if init is not None:
        proxy = {"name": "proxy", "image": "proxy", "restartPolicy": "Always"}
        spec["initContainers"] = [proxy, {"name": "first", "image": "app", "command": ["sh", "-c", init]}]
    template = {"metadata": {"labels": {"app": "job"}}, "spec": spec}
    whole = {"backoffLimit": limit, "template": template}
    return yaml.safe_dump({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": whole})


def test_a_job_runs_to_its_end(plane: ControlPlane, namespace: str, kubelet: Kubelet) -> None:
    """Init containers first, beside a native sidecar; the Job completes, and kubectl logs shows what was printed."""
    plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=job("echo main; sleep 0.1", init="echo first"))
    plane.kubectl("wait", "--for=condition=Complete", "job/job", "-n", namespace, "--timeout=120s")
    first, main = kubelet.runs
    assert (first.container, main.container) == ("first", "main")
    assert first.ended <= main.started
    assert plane.kubectl("logs", "job/job", "-c", "main", "-n", namespace) == "main\n"
    assert plane.kubectl("logs", "-l", "app=job", "--tail=100", "--all-containers", "-n", namespace).count("first") == 1


def test_a_failed_container_fails_the_job(plane: ControlPlane, namespace: str, kubelet: Kubelet) -> None:
    """With Never the pod stays, failed, with its log, its exit code and its last words."""
    words = 'echo "last words" > "$LEDGERGATE_TERMINATION_LOG"; echo loud; exit 3'
    plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=job(words))
    plane.kubectl("wait", "--for=condition=Failed", "job/job", "-n", namespace, "--timeout=120s")
    (pod,) = json.loads(plane.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "last words\n")
    assert plane.kubectl("logs", "-l", "app=job", "-n", namespace) == "loud\n"
    assert kubelet.await_run("main").code == 3


def test_on_failure_runs_again_until_the_job_has_enough(
    plane: ControlPlane, namespace: str, kubelet: Kubelet, tmp_path: Path
) -> None:
    """With OnFailure the same pod tries again; a container that was killed is one more failure."""
    script = f"echo x >> {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) -ge 3 || exec sleep 60"
    plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=job(script, restart="OnFailure", limit=6))
    tries = tmp_path / "tries"
    for lines in ("x\n", "x\nx\n"):
        until("its process", partial(_says, tries, lines))
        kubelet.kill(kubelet.runs[-1].pod)
    plane.kubectl("wait", "--for=condition=Complete", "job/job", "-n", namespace, "--timeout=120s")
    assert [run.code for run in kubelet.runs] == [137, 137, 0]
    (pod,) = json.loads(plane.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 2


def _says(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() == text


def test_kubectl_exec(plane: ControlPlane, namespace: str, kubelet: Kubelet) -> None:
    """A command runs with the container's environment; its output, errors and exit code come back."""
    del kubelet
    plane.kubectl("create", "secret", "generic", "pg", "--from-literal=password=se cret", "-n", namespace)
    variable = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "pg", "key": "password"}}}
    overrides = {"spec": {"containers": [{"name": "web", "image": "app", "env": [variable]}]}}
    plane.kubectl("run", "web", "--image=app", f"--overrides={json.dumps(overrides)}", "-n", namespace)
    plane.kubectl("wait", "--for=condition=Ready", "pod/web", "-n", namespace, "--timeout=120s")
    said = ("exec", "web", "-n", namespace, "--", "sh", "-c")
    assert plane.kubectl(*said, 'echo "$PASSWORD"') == "se cret\n"
    failed = plane.kubectl(*said, "echo out; echo bad >&2; exit 5", check=False)
    assert failed.splitlines()[0] == "out"
    assert failed.splitlines()[1] == "bad"
    assert "exit code 5" in failed


def test_the_environment_is_that_of_the_specification() -> None:
    """Secrets, fields, and variables that stand in others, as Kubernetes documents them."""
    pod = {"metadata": {"name": "p", "annotations": {"a/b": "c"}}, "spec": {"nodeName": "n"}}
    variables = [
        {"name": "HOST", "value": "db"},
        {"name": "PASS", "valueFrom": {"secretKeyRef": {"name": "pg", "key": "password"}}},
        {"name": "URL", "value": "x://$(PASS)@$(HOST)/$$(HOST)/$(NONE)"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['a/b']"}}},
        {"name": "MAYBE", "valueFrom": {"secretKeyRef": {"name": "pg", "key": "no", "optional": True}}},
    ]
    container = {"name": "m", "env": variables, "envFrom": [{"secretRef": {"name": "pg"}, "prefix": "PG_"}]}
    found = environment(pod, container, lambda kind, name: {"password": f"{kind}-{name}"})
    assert found == {
        "PG_password": "secret-pg",
        "HOST": "db",
        "PASS": "secret-pg",
        "URL": "x://secret-pg@db/$(HOST)/$(NONE)",
        "POD": "p",
        "NOTE": "c",
    }
    image = Image(Path(), entrypoint=("run",))
    assert command({"args": ["$(HOST)"]}, image, found) == ["run", "db"]
    assert command({"command": ["go"]}, image, found) == ["go"]
    wrong = {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "pg", "key": "no"}}}]}
    with pytest.raises(ConfigurationError, match="couldn't find key no"):
        environment(pod, wrong, lambda _kind, _name: {})
