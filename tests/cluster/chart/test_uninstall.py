"""Uninstalling the chart: whether helm's hook succeeds or not, no pod is left waiting."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.application import LEDGERGATE, SECOND, THIRD, Application, migrate
from testbed.cluster.guard import Guard
from testbed.cluster.helm import HelmError
from testbed.waiting import until
from tests.pages import blocks

NODE_LABEL = "runs-the-release"
POLICY_KINDS = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings")
KINDS = (
    *("all", "pdb", "sa", "roles", "rolebindings", "resourcequotas", "clusterroles", "clusterrolebindings"),
    *("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
    *("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
)


def assert_nothing_is_left(guard: Guard) -> None:
    """Assert that only LedgerGates, the CRD and what the controller created are left."""
    kinds = (*KINDS, *POLICY_KINDS) if guard.plane.has_policy else KINDS
    named = guard.plane.kubectl("get", ",".join(kinds), "-n", guard.namespace, "-o", "name")
    assert "ledgergate" not in named


def test_uninstalling_frees_every_pod(guard: Guard, application: Application, database: str, migrations: Path) -> None:
    """No pod is left gated or unready, new pods are not held, and every LedgerGate still exists."""
    migrate(migrations, database, "--to", SECOND)
    application.gate(readiness="Live")
    until("the gate to be read again", lambda: application.status().get("observedGeneration") == 2)
    application.deploy("early", THIRD, replicas=20)
    application.await_held("early", 20)
    assert any(pod["spec"].get("readinessGates") for pod in application.pods("early"))
    guard.uninstall()
    application.await_running("early", 20)
    ready = ("wait", "--for=condition=Ready", "pods", "-l", "app=early", "--timeout=120s")
    guard.plane.kubectl(*ready, "-n", application.namespace, timeout=150)
    application.deploy("late", THIRD)
    application.await_running("late")
    assert application.status()["state"]
    assert_nothing_is_left(guard)


@pytest.fixture
def stuck(guard: Guard, application: Application) -> Iterator[Guard]:
    """An installation whose `helm uninstall` has failed while pods are held: no node may run its Job."""
    guard.upgrade("--set-string", f"uninstall.nodeSelector.{NODE_LABEL}=yes")
    application.deploy("early", THIRD)
    application.await_held("early")
    fail_to_uninstall(guard)
    yield guard
    guard.plane.kubectl("label", "nodes", "--all", f"{NODE_LABEL}-")


def fail_to_uninstall(guard: Guard) -> None:
    """Assert that `helm uninstall` fails and names the Job that it waited for."""
    with pytest.raises(HelmError, match=f"Job/{guard.namespace}/ledgergate-release not ready"):
        guard.uninstall("--timeout=3s")


def test_an_uninstallation_that_failed_can_be_taken_back_or_repeated(stuck: Guard, application: Application) -> None:
    """Nothing was deleted: pods are held and judged; helm can roll back, or, once the cause is mended, uninstall."""
    application.deploy("late", THIRD)
    application.await_held("late")
    application.await_held("early")
    assert "denied the request" in application.try_to_ungate(application.held("late")[0])
    stuck.roll_back(stuck.history()[-1]["revision"])
    assert stuck.history()[-1]["status"] == "deployed"
    fail_to_uninstall(stuck)
    stuck.plane.kubectl("label", "nodes", "--all", f"{NODE_LABEL}=yes")
    stuck.uninstall()
    application.await_running("early")
    application.await_running("late")
    assert_nothing_is_left(stuck)


def test_an_uninstallation_that_failed_can_be_done_by_hand(stuck: Guard, application: Application) -> None:
    """The page's own commands say why, free every pod, and leave nothing."""
    why, by_hand = (text for text in blocks("install.md", "sh") if "component=release" in text or "--no-hooks" in text)
    assert "FailedScheduling" in run_as_written(why, stuck)
    assert "released 3 pods" in run_as_written(by_hand, stuck)
    application.await_running("early")
    assert_nothing_is_left(stuck)


def run_as_written(block: str, guard: Guard) -> str:
    """Run a block of the page, for a release and a namespace of other names than the page's."""
    text = block.replace("uninstall ledgergate", f"uninstall {guard.release}")
    text = text.replace("-n ledgergate", f"-n {guard.namespace}")
    programs = (guard.plane.programs, guard.helm.program.parent, LEDGERGATE.parent)
    environment = {
        "PATH": os.pathsep.join([*map(str, programs), os.defpath]),
        "HOME": str(guard.helm.home),
        "KUBECONFIG": str(guard.plane.kubeconfig),
    }
    command = ["bash", "-euc", text]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
