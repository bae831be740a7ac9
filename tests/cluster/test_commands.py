"""The commands for people, against a real API server; and what kubectl alone shows."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster.application import FIRST, LEDGERGATE, SECOND, THIRD, Application, migrate
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.controlplane.kubeconfig import Cluster
from testbed.ports import free_ports
from testbed.waiting import until


def ledgergate(kubeconfig: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a kubeconfig and no other variable of ledgergate in the environment."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("LEDGERGATE_", "KUBE"))}
    return subprocess.run(
        [LEDGERGATE, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
        env={**clean, "KUBECONFIG": str(kubeconfig)},
    )


def status(application: Application, *arguments: str) -> str:
    done = ledgergate(application.plane.kubeconfig, "status", "-n", application.namespace, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def survey(application: Application) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(status(application, "-o", "json"))
    return found


@pytest.fixture
def held(application: Application, database: str, migrations: Path) -> list[str]:
    """Three pods of a Deployment that wait for a migration."""
    migrate(migrations, database, "--to", SECOND)
    application.opt_in(database)
    application.deploy("gateway", THIRD)
    pods = application.await_held("gateway")
    until("the count", lambda: application.status()["heldPods"] == 3)
    return pods


def test_status_shows_what_is_held_and_why(
    application: Application, held: list[str], database: str, migrations: Path
) -> None:
    """The table has gate, ledger, pods and reason; once migrated, it says that nothing is held."""
    said = status(application)
    gate, *pods = [line.split() for line in said.splitlines() if line.startswith(application.namespace)]
    assert gate[:7] == [application.namespace, "app", "ledgergate", SECOND, "2", "Live", "3"]
    assert sorted(pod[1] for pod in pods) == sorted(held)
    for pod in pods:
        assert pod[2:4] == ["app", "Behind"]
        assert f"ledger app is at {SECOND}, the pod expects {THIRD}: the pod is held until it is applied" in " ".join(
            pod
        )
    migrate(migrations, database)
    application.await_running("gateway")
    until("the status", lambda: application.status()["heldPods"] == 0)
    assert f"no pod is held in namespace {application.namespace}" in status(application)


def test_status_as_json_has_the_same(application: Application, held: list[str]) -> None:
    """A script gets every fact under a stable key, and every namespace with -A."""
    found = survey(application)
    (gate,) = found["gates"]
    assert (gate["name"], gate["head"], gate["applied"], gate["state"], gate["held"]) == ("app", SECOND, 2, "Live", 3)
    assert gate["remarks"] == []
    assert sorted(pod["pod"] for pod in found["held"]) == sorted(held)
    assert {(*pod["gates"], pod["reason"]) for pod in found["held"]} == {("app", "Behind")}
    everywhere = json.loads(ledgergate(application.plane.kubeconfig, "status", "-A", "-o", "json").stdout)
    assert all(pod in everywhere["held"] for pod in found["held"])


def test_status_says_what_keeps_a_gate_from_working(application: Application, database: str) -> None:
    """A namespace that is not opted in and a missing Secret are reported with what to do."""
    application.gate(database={"secretRef": {"name": "missing"}})
    until("a status", lambda: application.status().get("state") == "Misconfigured")
    said = status(application)
    assert f"kubectl label namespace {application.namespace} ledgergate.dev/admission=enabled" in said
    assert "Secret missing" in said
    application.secret(database)
    application.opt_in(database)
    until("the gate to work", lambda: application.status().get("state") == "Live")
    assert survey(application)["gates"][0]["remarks"] == []


def test_a_kubectl_plugin_takes_the_context_s_namespace(
    application: Application, held: list[str], tmp_path: Path
) -> None:
    """`kubectl ledgergate` without arguments shows the status of the context's namespace, as kubectl's commands do."""
    mine = tmp_path / "config"
    mine.write_bytes(application.plane.kubeconfig.read_bytes())
    application.plane.kubectl(
        "config", "set-context", "--current", f"--namespace={application.namespace}", kubeconfig=mine
    )
    code = "from webhook.cli.plugin import main; main()"
    environment = {**os.environ, "KUBECONFIG": str(mine)}
    for arguments in ([], ["status", "-o", "table"]):
        done = subprocess.run(
            [LEDGERGATE.with_name("python"), "-c", code, *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
        )
        assert all(pod in done.stdout for pod in held)


def test_a_bypass_opens_the_gate_until_it_is_ended(application: Application, held: list[str]) -> None:
    """Held pods run at once; `status` shows why; --end closes the gate, so that new pods wait again."""
    opened = ledgergate(
        application.plane.kubeconfig, "bypass", "app", "-n", application.namespace, "--for", "30m", "--reason", "fire"
    )
    assert opened.returncode == 0, opened.stderr
    assert "every pod that it selects starts" in opened.stdout
    assert sorted(application.await_running("gateway")) == sorted(held)
    (remark,) = survey(application)["gates"][0]["remarks"]
    assert remark.startswith("bypassed until ")
    assert "(fire)" in remark
    closed = ledgergate(application.plane.kubeconfig, "bypass", "app", "-n", application.namespace, "--end")
    assert closed.returncode == 0, closed.stderr
    until("the gate to be closed", lambda: survey(application)["gates"][0]["bypass_until"] is None)
    application.deploy("late", THIRD)
    application.await_held("late")


def test_a_bypass_survives_the_manifest_being_applied_again(application: Application, held: list[str]) -> None:
    """A GitOps tool that applies the manifest, which has no bypass, does not close the gate in the emergency."""
    ledgergate(
        application.plane.kubeconfig, "bypass", "app", "-n", application.namespace, "--for", "1h", "--reason", "fire"
    )
    application.gate()
    assert survey(application)["gates"][0]["bypass_until"] is not None
    assert sorted(application.await_running("gateway")) == sorted(held)


def test_a_bypass_of_no_gate_says_where_they_are(application: Application) -> None:
    """A mistyped name or namespace is exit 2, with the command that lists what there is."""
    arguments = ("bypass", "nosuch", "-n", application.namespace, "--for", "5m", "--reason", "fire")
    done = ledgergate(application.plane.kubeconfig, *arguments)
    assert done.returncode == 2
    assert f"no LedgerGate nosuch in namespace {application.namespace}" in done.stderr
    assert "ledgergate status -A" in done.stderr


def test_a_release_against_the_guard_is_refused_and_explained(application: Application, held: list[str]) -> None:
    """While the webhook has the last word no pod slips through: exit 1, each pod named, and what to do instead."""
    done = ledgergate(application.plane.kubeconfig, "release", "--all", "-n", application.namespace)
    assert done.returncode == 1
    assert all(f"{application.namespace}/{pod}: " in done.stderr for pod in held)
    assert "3 pods could not be released: ledgergate's webhook refuses it" in done.stderr
    assert "ledgergate bypass GATE" in done.stderr
    assert "ledgergate release --all --uninstall" in done.stderr
    assert application.await_held("gateway") == held


def test_a_release_works_in_a_namespace_that_was_opted_out(application: Application, held: list[str]) -> None:
    """Without the namespace's label nothing guards its pods; released once, they are free, and again is no error."""
    application.plane.kubectl("label", "namespace", application.namespace, "ledgergate.dev/admission-")
    arguments = ("release", "--all", "-n", application.namespace)
    until("the release", lambda: ledgergate(application.plane.kubeconfig, *arguments).returncode == 0)
    assert sorted(application.await_running("gateway")) == sorted(held)
    again = ledgergate(application.plane.kubeconfig, *arguments)
    assert (again.returncode, again.stdout) == (0, f"no pod is held in namespace {application.namespace}\n")


def test_the_error_for_a_missing_right_names_it(application: Application) -> None:
    """A person without rights gets exit 2 and the API server's own words, never a traceback."""
    powerless = application.plane.kubeconfig_for(application.namespace, "default")
    for arguments in (("status",), ("bypass", "app", "--for", "1m", "--reason", "x"), ("release", "--all")):
        done = ledgergate(powerless, *arguments)
        assert done.returncode == 2, done.stderr
        assert "a right is missing" in done.stderr
        assert "cannot" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_api_server_that_is_not_there_is_exit_four(tmp_path: Path) -> None:
    """The error for a cluster that cannot be reached has its address."""
    (port,) = free_ports(1)
    kubeconfig = Cluster(f"https://127.0.0.1:{port}", None).write_for_token(tmp_path / "config", "token", "default")
    for arguments in (("status",), ("bypass", "app", "--for", "1m", "--reason", "x"), ("release", "--all")):
        done = ledgergate(kubeconfig, *arguments)
        assert done.returncode == 4, done.stderr
        assert "the API server does not answer" in done.stderr
        assert str(port) in done.stderr


@pytest.fixture
def own_plane(programs: Path) -> Iterator[ControlPlane]:
    """A control plane of the test's own, without ledgergate."""
    with ControlPlane(programs) as plane:
        yield plane


def test_uninstalling_leaves_no_pod_gated(own_plane: ControlPlane, database: str, migrations: Path) -> None:
    """One command puts ledgergate out of service, frees every pod, and lets it be ready; twice is fine."""
    absent = ledgergate(own_plane.kubeconfig, "status")
    assert absent.returncode == 2
    assert "ledgergate is not installed in this cluster" in absent.stderr
    with Installation(own_plane):
        own_plane.create_namespace("shop")
        application = Application(own_plane, "shop")
        migrate(migrations, database, "--to", FIRST)
        application.opt_in(database, readiness="Latch")
        application.deploy("gateway", THIRD, replicas=40)
        application.await_held("gateway", 40)
        own_plane.kubectl("scale", "deployment/gateway", "-n", "shop", "--replicas=80")
        done = ledgergate(own_plane.kubeconfig, "release", "--all", "--uninstall")
        assert done.returncode == 0, done.stderr
        order = [line.removeprefix("deleted ") for line in done.stdout.splitlines() if line.startswith("deleted ")]
        assert order == [
            "mutatingadmissionpolicybindings/hold.ledgergate.dev",
            "mutatingadmissionpolicies/hold.ledgergate.dev",
            "mutatingwebhookconfigurations/ledgergate",
            "validatingadmissionpolicybindings/freeze.ledgergate.dev",
            "validatingadmissionpolicies/freeze.ledgergate.dev",
            "validatingwebhookconfigurations/ledgergate",
        ]
        application.await_running("gateway", 80)
        path = "/apis/apps/v1/namespaces/shop/deployments/gateway"
        until("every pod to be ready", lambda: own_plane.api.get(path)["status"].get("readyReplicas") == 80)
        again = ledgergate(own_plane.kubeconfig, "release", "--all", "--uninstall")
        assert (again.returncode, again.stdout) == (0, "no pod is held in any namespace\n")


def test_a_release_that_a_dead_webhook_blocks_names_the_way_out(
    own_plane: ControlPlane, database: str, migrations: Path
) -> None:
    """Where ledgergate's processes are gone and its webhook configurations are left, "run it again" would not help."""
    with Installation(own_plane) as installation:
        own_plane.create_namespace("shop")
        application = Application(own_plane, "shop")
        migrate(migrations, database, "--to", FIRST)
        application.opt_in(database)
        application.deploy("gateway", THIRD, replicas=1)
        held = application.await_held("gateway", 1)
        for name in ("controller", "webhook"):
            installation.kill(name)
        blocked = ledgergate(own_plane.kubeconfig, "release", "--all", "-n", "shop")
        assert blocked.returncode == 1
        assert f"shop/{held[0]}: " in blocked.stderr
        assert "remove what is left of it with `ledgergate release --all --uninstall`" in blocked.stderr
        done = ledgergate(own_plane.kubeconfig, "release", "--all", "--uninstall")
        assert done.returncode == 0, done.stderr
        application.await_running("gateway", 1)


def test_kubectl_alone_shows_what_is_going_on(application: Application, held: list[str]) -> None:
    """`get ledgergates` and `describe pod` name the ledger's head, what the pod waits for and what happens next."""
    heading, line = application.plane.kubectl("get", "ledgergates", "-n", application.namespace).splitlines()
    assert heading.split() == ["NAME", "DIALECT", "HEAD", "APPLIED", "STATE", "HELD", "OLDEST", "AGE"]
    assert line.split()[:-1] == ["app", "ledgergate", SECOND, "2", "Live", "3"]
    assert "SchedulingGated" in application.plane.kubectl("get", "pod", held[0], "-n", application.namespace)

    def described() -> str:
        return application.plane.kubectl("describe", "pod", held[0], "-n", application.namespace)

    until("the Event", lambda: "Held" in described())
    said = " ".join(described().partition("Events:")[2].split())
    assert "ledgergate.dev/controller" in said
    assert f"ledger app is at {SECOND}, the pod expects {THIRD}: the pod is held until it is applied" in said
