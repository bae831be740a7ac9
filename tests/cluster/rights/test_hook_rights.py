"""Every right of the chart's two hooks is used: one scenario under an audit log, and a test for each right."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.cluster.application import FIRST, SECOND, Application, migrate, write_migrations
from testbed.cluster.guard import Guard
from testbed.cluster.helm import Helm, temporary_home
from testbed.cluster.rights import AUDIT_POLICY, Request, Right, audited, granted
from testbed.controlplane import ControlPlane
from testbed.postgres import create_database, drop_database
from testbed.waiting import until

TEMPLATES = Path(__file__).parents[3] / "manifests/chart/templates"
RELEASE = PLACE = "ledgergate"
NAMESPACE = "shop"
ACCOUNTS = {"ledgergate-release", "ledgergate-test"}
DEPLOYMENTS = ("deployment/ledgergate-webhook", "deployment/ledgergate-controller", "-n", PLACE)
OWNER = "meta.helm.sh/release-name"
REFUSAL = "was not created by helm, but by kubectl"


def shipped() -> list[Right]:
    """Return the rights in the templates, without helm: tests are collected before it is built."""
    objects: list[Any] = []
    for template in ("uninstall.yaml", "test.yaml"):
        text = (TEMPLATES / template).read_text()
        variables = dict(re.findall(r'\$(name|namespace) := (?:printf )?"([^"]+)"', text))
        text = re.sub(r"\{\{-? */\*.*?\*/ *-?\}\}", "", text, flags=re.DOTALL)
        text = re.sub(r"^ *\{\{-.*\}\}$", "", text, flags=re.MULTILINE)
        text = text.replace("{{ .Release.Namespace | quote }}", PLACE).replace("{{ $name }}", variables["name"])
        text = text.replace("{{ $namespace | quote }}", variables.get("namespace", "").replace("%s", PLACE))
        objects += yaml.safe_load_all(re.sub(r"\{\{.*?\}\}", "{}", text))
    return sorted(granted(each for each in objects if each and each["kind"].endswith(("Role", "RoleBinding"))))


RIGHTS = shipped()


@dataclass(frozen=True)
class Recorded:
    """What the hooks asked the API server for.

    Args:
        requests: those of their accounts.
        hooks: the rights that helm has rendered.
        problems: the steps that failed, with their errors.
    """

    requests: set[Request]
    hooks: list[Right]
    problems: list[str]


@pytest.fixture(scope="module")
def recorded(
    programs: Path, helm_program: Path, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    """All that the hooks do, once."""
    directory = tmp_path_factory.mktemp("audit")
    policy, log = directory / "policy.yaml", directory / "audit.log"
    policy.write_text(json.dumps(AUDIT_POLICY))
    flags = (f"--audit-policy-file={policy}", f"--audit-log-path={log}")
    database, problems = create_database(postgres), []
    with ControlPlane(programs, api_flags=flags) as plane, temporary_home() as home:
        for name in (PLACE, NAMESPACE):
            plane.create_namespace(name)
        with Guard(Helm(helm_program, plane, Path(home)), plane, RELEASE, PLACE) as guard:
            guard.install("--set", "webhook.replicas=1,controller.replicas=1")
            guard.serve()
            hooks = [each for each in yaml.safe_load_all(guard.helm("get", "hooks", RELEASE, "-n", PLACE)) if each]
            application = Application(plane, NAMESPACE)
            # A step that a missing right stops must not hide which right that is.
            for step in (
                partial(guard.helm, "test", RELEASE, "-n", PLACE),
                partial(hold, guard, application, database, write_migrations(directory / "migrations")),
                partial(apply_by_hand, guard, hooks),
                partial(uninstall, guard, application),
            ):
                try:
                    step()
                except Exception as error:  # noqa: BLE001 - helm's, kubectl's or an assertion: a test reports it
                    problems.append(f"{error}\n{guard.pods.logs()}")
        requests = {each for each in audited(log) if each.account in ACCOUNTS}
        yield Recorded(requests, sorted(granted(hooks_of_rbac(hooks))), problems)
    drop_database(database)


def hooks_of_rbac(objects: list[Any]) -> list[Any]:
    return [each for each in objects if each["kind"].endswith(("Role", "RoleBinding"))]


def hold(guard: Guard, application: Application, database: str, migrations: Path) -> None:
    """Get a pod with a readiness gate held."""
    guard.grant(NAMESPACE)
    migrate(migrations, database, "--to", FIRST)
    application.opt_in(database, readiness="Live")
    until("the ledger to be read", lambda: application.status().get("head") == FIRST)
    application.deploy("early", SECOND, replicas=1)
    application.await_held("early", 1)


def apply_by_hand(guard: Guard, hooks: list[Any]) -> None:
    """Apply the Job with kubectl, of a release whose records are elsewhere: it looks who created it, and refuses."""
    guard.plane.kubectl("annotate", *DEPLOYMENTS, f"{OWNER}=elsewhere", "--overwrite")
    mine = [each for each in hooks if each["metadata"]["name"] == "ledgergate-release"]
    text = yaml.safe_dump_all(mine)
    guard.plane.kubectl("apply", "-f", "-", stdin=text)
    try:
        until("the Job's refusal", lambda: REFUSAL in guard.pods.logs())
    finally:
        guard.plane.kubectl("delete", "-f", "-", stdin=text)
        guard.plane.kubectl("annotate", *DEPLOYMENTS, f"{OWNER}={RELEASE}", "--overwrite")


def uninstall(guard: Guard, application: Application) -> None:
    """Uninstall the release, and see the held pod start and become ready."""
    guard.uninstall()
    application.await_running("early", 1)
    ready = ("wait", "--for=condition=Ready", "pods", "-l", "app=early", "--timeout=120s")
    guard.plane.kubectl(*ready, "-n", NAMESPACE, timeout=150)


@pytest.mark.parametrize("right", RIGHTS, ids=str)
def test_a_right_is_used(recorded: Recorded, right: Right) -> None:
    """Without it something of the scenario would have been refused; a right that nothing uses is not granted."""
    assert any(request.allowed and request.uses(right) for request in recorded.requests)


def test_every_step_succeeded(recorded: Recorded) -> None:
    """`helm test` succeeds, a Job that helm did not create refuses, and `helm uninstall` leaves every pod free."""
    assert recorded.problems == []


def test_nothing_was_refused(recorded: Recorded) -> None:
    """No hook asks for what its account may not do."""
    assert sorted(str(request) for request in recorded.requests if not request.allowed) == []


def test_the_rights_are_those_that_helm_renders(recorded: Recorded) -> None:
    """The generated tests read the templates without helm; no right escapes them in this way."""
    assert recorded.hooks == RIGHTS
    assert {right.account for right in RIGHTS} == ACCOUNTS
