"""Who may open a LedgerGate, for how long, and whose name the bypass has."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster.application import ADMINISTRATOR, THIRD, Application, in_an_hour
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlaneError
from testbed.waiting import until
from tests.cluster.events import events
from tests.cluster.test_commands import ledgergate

ACCOUNT = "operator"


@pytest.fixture
def held(application: Application, database: str) -> list[str]:
    """Three pods that wait for a migration."""
    application.opt_in(database)
    application.deploy("gateway", THIRD)
    return application.await_held("gateway")


@pytest.fixture
def operator(application: Application) -> Path:
    """The kubeconfig of a service account that may edit everything in the namespace, LedgerGates too."""
    namespace = application.namespace
    application.plane.kubectl("create", "serviceaccount", ACCOUNT, "-n", namespace)
    bind(application, "edit", "edit")
    asked = ("auth", "can-i", "patch", "ledgergates.ledgergate.dev", "-n", namespace, f"--as={name(application)}")
    until("the right to edit", lambda: "yes" in application.plane.kubectl(*asked, check=False))
    return application.plane.kubeconfig_for(namespace, ACCOUNT)


def name(application: Application) -> str:
    return f"system:serviceaccount:{application.namespace}:{ACCOUNT}"


def bind(application: Application, binding: str, role: str) -> None:
    flags = (f"--clusterrole={role}", f"--user={name(application)}", "-n", application.namespace)
    application.plane.kubectl("create", "rolebinding", binding, *flags)


def write(application: Application, bypass: dict[str, Any] | None, *flags: str) -> str:
    """Patch the gate's `spec.bypass` as the administrator, and return the output."""
    patch = json.dumps({"spec": {"bypass": bypass}})
    target = ("patch", "ledgergate", "app", "-n", application.namespace, "--type=merge", "-p", patch)
    return application.plane.kubectl(*target, *flags, check=False)


def opening(**changes: Any) -> dict[str, Any]:
    return {"until": in_an_hour(), "reason": "incident 4711", "by": ADMINISTRATOR, **changes}


def test_only_a_user_with_the_verb_opens_a_gate(application: Application, held: list[str], operator: Path) -> None:
    """An editor is refused with the command that grants the verb; once it is granted, the Event has their name."""
    command = ("bypass", "app", "-n", application.namespace, "--for", "30m", "--reason", "incident 4711")
    refused = ledgergate(operator, *command)
    assert refused.returncode == 2
    assert "the verb bypass on ledgergates.ledgergate.dev" in refused.stderr
    grant = (
        "kubectl create rolebinding ledgergate-bypass --clusterrole=ledgergate-bypass "
        f"--user={name(application)} -n {application.namespace}"
    )
    assert grant in refused.stderr
    assert application.held("gateway") == held
    application.plane.kubectl(*grant.split()[1:])
    until("the right to count", lambda: "is open until" in ledgergate(operator, *command).stdout)
    assert sorted(application.await_running("gateway")) == sorted(held)
    (event,) = until("the Event", lambda: events(application, "Bypassed", "LedgerGate"))
    assert f"opened by {name(application)} until" in event["note"]
    assert "incident 4711" in event["note"]


@pytest.mark.usefixtures("operator")
def test_a_gate_is_not_opened_in_another_s_name(application: Application, held: list[str]) -> None:
    """The name is the user's own, in a bypass that is written and in a LedgerGate that is created with one."""
    assert f"spec.bypass.by: expected your user name, {ADMINISTRATOR}" in write(application, opening(by="alice"))
    found = json.loads(application.plane.kubectl("get", "ledgergate", "app", "-n", application.namespace, "-o", "json"))
    found["metadata"] = {"name": "born-open", "namespace": application.namespace}
    found["spec"]["bypass"] = opening(by="alice")
    said = application.plane.kubectl("create", "-f", "-", stdin=json.dumps(found), check=False)
    assert "spec.bypass.by" in said
    found["spec"]["bypass"] = opening(by=name(application))
    create = ("create", "-f", "-", f"--as={name(application)}")
    assert "the verb bypass" in application.plane.kubectl(*create, stdin=json.dumps(found), check=False)
    assert application.held("gateway") == held


def test_a_name_that_is_left_out_is_filled_in(application: Application, held: list[str]) -> None:
    """The API server fills it in, so a time and a reason are enough; applying the same again is no change."""
    bypass = {"until": in_an_hour(), "reason": "incident 4711", "by": None}
    for _ in range(2):
        assert "patched" in write(application, bypass)
        target = ("get", "ledgergate", "app", "-n", application.namespace, "-o", "jsonpath={.spec.bypass.by}")
        assert application.plane.kubectl(*target) == ADMINISTRATOR
    assert sorted(application.await_running("gateway")) == sorted(held)
    assert len(until("the Event", lambda: events(application, "Bypassed", "LedgerGate"))) == 1


def test_what_does_not_open_needs_no_verb(application: Application, held: list[str], operator: Path) -> None:
    """Editors may edit a gate with a bypass, and end the bypass; another reason or name counts as a new bypass."""
    assert "patched" in write(application, opening())
    as_operator = (f"--as={name(application)}",)
    target = ("patch", "ledgergate", "app", "-n", application.namespace, "--type=merge", "-p")
    application.plane.kubectl(*target, '{"spec": {"maxHold": "9m"}}', *as_operator)
    for change in ({"reason": "another"}, {"by": name(application)}):
        assert "the verb bypass" in write(application, opening(**change), *as_operator)
    done = ledgergate(operator, "bypass", "app", "-n", application.namespace, "--end")
    assert done.returncode == 0, done.stderr
    assert len(application.await_running("gateway")) == len(held)


def test_a_day_is_the_limit(application: Application, held: list[str], installation: Installation) -> None:
    """A later end is refused; written while no webhook answers, it is stored, does not count, and an Event says so."""
    late = f"{datetime.now(UTC) + timedelta(hours=25):%Y-%m-%dT%H:%M:%SZ}"
    said = write(application, opening(until=late))
    assert "is too late: spec.bypass.until may be 24 hours ahead at most" in said
    installation.kill("webhook")
    assert "patched" in write(application, opening(until=late))
    (event,) = until("the Event", lambda: events(application, "BypassTooLong", "LedgerGate"))
    assert f"set by {ADMINISTRATOR}, does not count" in event["note"]
    assert application.held("gateway") == held
    installation.ensure()
    day = f"{datetime.now(UTC) + timedelta(hours=24):%Y-%m-%dT%H:%M:%SZ}"
    assert "patched" in write(application, opening(until=day))
    application.await_running("gateway")


def test_a_gate_can_be_opened_while_no_webhook_answers(
    application: Application, held: list[str], installation: Installation
) -> None:
    """The verb and the name are checked inside the API server, so an outage does not keep the emergency exit shut."""
    installation.kill("webhook")
    with pytest.raises(ControlPlaneError, match=r"spec\.bypass\.by"):
        application.gate(bypass=opening(by="alice"))
    command = ("bypass", "app", "-n", application.namespace, "--for", "24h", "--reason", "incident 4711")
    done = ledgergate(application.plane.kubeconfig, *command)
    assert done.returncode == 0, done.stderr
    assert sorted(application.await_running("gateway")) == sorted(held)
