"""Every right of the shipped roles is used: one scenario under an audit log, and a test for each right."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

from testbed.cluster.application import FIRST, SECOND, THIRD, Application, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.cluster.rights import AUDIT_POLICY, Request, Right, audited, granted
from testbed.controlplane import ControlPlane
from testbed.postgres import create_database, drop_database
from testbed.waiting import until
from tests.cluster.workloads import KINDS, manifest

BASE = Path(__file__).parents[3] / "manifests/chart/files"
NAMESPACE = "shop"
MAKERS = tuple(kind for kind in KINDS if kind.name in {"rolling", "ordered", "everywhere", "once"})
OWNERS = {"replicasets": "apps/v1", "statefulsets": "apps/v1", "daemonsets": "apps/v1", "jobs": "batch/v1"}
CA = "/api/v1/namespaces/ledgergate/secrets/ledgergate-ca"


def shipped() -> list[Right]:
    """Return the rights of the manifests; the right to a database's Secret is in the scenario's namespace."""
    files = [*sorted((BASE / "base").glob("roles-*.yaml")), BASE / "namespace/role.yaml"]
    objects = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    for each in objects:
        if each["metadata"]["name"] == "ledgergate-database":
            each["metadata"]["namespace"] = NAMESPACE
    return sorted(granted(objects))


RIGHTS = shipped()


@dataclass(frozen=True)
class Recorded:
    """What the accounts asked the API server for.

    Args:
        own: requests while ledgergate keeps its certificates itself.
        external: requests of the controller alone, with cert-manager's certificates.
        problems: the errors of the steps that failed.
    """

    own: set[Request]
    external: set[Request]
    problems: list[str]


@pytest.fixture(scope="module")
def recorded(programs: Path, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Everything that ledgergate does, once."""
    directory = tmp_path_factory.mktemp("audit")
    policy, log = directory / "policy.yaml", directory / "audit.log"
    policy.write_text(json.dumps(AUDIT_POLICY))
    flags = (f"--audit-policy-file={policy}", f"--audit-log-path={log}")
    database = create_database(postgres)
    with ControlPlane(programs, api_flags=flags) as plane:
        plane.create_namespace(NAMESPACE)
        application = Application(plane, NAMESPACE)
        migrations = write_migrations(directory / "migrations")
        problems = []
        with Installation(plane):
            # A step that a missing right stops must not hide which right that is.
            for step in (
                partial(hold_and_deny, application, database, migrations),
                partial(opt_out, application),
                partial(damage_the_authority, plane),
            ):
                try:
                    step()
                except AssertionError as error:
                    problems.append(str(error))
        own, end = audited(log), log.stat().st_size
        with WithCertManager(plane):
            application.plane.kubectl("label", "namespace", NAMESPACE, "ledgergate.dev/admission=enabled")
            application.deploy("later", THIRD, replicas=1)
            try:
                application.await_running("later", 1)
            except AssertionError as error:
                problems.append(str(error))
        yield Recorded(own, audited(log, since=end), problems)
    drop_database(database)


class WithCertManager(Installation):
    """The controller alone, as it runs with cert-manager: without the rights to keep certificates itself."""

    def start_controller(self) -> None:
        """Start the controller, which leaves certificates to others."""
        self.controller_flags = ("--certificates", "external")
        super().start_controller()

    def start_webhook(self) -> None:
        """Start no webhook: it would need a certificate of cert-manager."""

    def _apply(self) -> None:
        super()._apply()
        manifest = (BASE / "base/roles-certificates.yaml").read_text()
        self._plane.kubectl("delete", "-f", "-", stdin=manifest)


def hold_and_deny(application: Application, database: str, migrations: Path) -> None:
    """Hold and release pods, deny those of each kind of owner and wake it, and answer readiness gates."""
    migrate(migrations, database, "--to", FIRST)
    application.opt_in(database, readiness="Latch")
    application.deploy("gateway", SECOND, replicas=1)
    application.await_held("gateway", 1)
    until("the Event on the Deployment", lambda: _events(application, "Deployment", "PodsHeld"))
    application.gate(readiness="Latch", onBehind="Deny")
    until("the edit to count", lambda: application.status().get("observedGeneration") == 2)
    wanted = [manifest(kind, "new", THIRD) for kind in MAKERS]
    application.plane.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump_all(wanted))
    # Often enough that the next retry is seconds away: an earlier one would create the pods before the owner is woken.
    times = {"ReplicaSet": 12, "StatefulSet": 12, "DaemonSet": 12, "Job": 4}
    until("refusals", lambda: all(_refusals(application, kind) >= times[kind] for kind in times), timeout=90)
    migrate(migrations, database)
    application.await_running("gateway", 1)
    until("woken owners", lambda: all(_woken(application, kind) for kind in OWNERS))
    until("a ready pod", lambda: _conditions(application, "gateway"))


def opt_out(application: Application) -> None:
    """Take the label from the namespace while a pod is held."""
    application.gate(readiness="Latch", onBehind="Hold")
    until("the edit to count", lambda: application.status().get("observedGeneration") == 3)
    application.deploy("late", "29990101000000_never", replicas=1)
    application.await_held("late", 1)
    application.plane.kubectl("label", "namespace", NAMESPACE, "ledgergate.dev/admission-")
    application.await_running("late", 1)


def damage_the_authority(plane: ControlPlane) -> None:
    """Garble the CA Secret, which the controller then replaces."""
    plane.api.merge(CA, {"data": {"tls.crt": "eA=="}})
    until("another authority", lambda: plane.api.get(CA)["data"]["tls.crt"] != "eA==")


def _events(application: Application, kind: str, reason: str) -> list[object]:
    found = application.objects("v1", "events", fieldSelector=f"reason={reason}")
    return [each for each in found if each["involvedObject"]["kind"] == kind]


def _refusals(application: Application, kind: str) -> int:
    found = application.objects("v1", "events", fieldSelector="reason=FailedCreate")
    return sum(each.get("count", 1) for each in found if each["involvedObject"]["kind"] == kind)


def _woken(application: Application, collection: str) -> bool:
    found = application.objects(OWNERS[collection], collection)
    return any("ledgergate.dev/released-at" in each["metadata"].get("annotations", {}) for each in found)


def _conditions(application: Application, name: str) -> list[object]:
    every = [each for pod in application.pods(name) for each in pod["status"].get("conditions", ())]
    return [each for each in every if each["type"] == "ledgergate.dev/app"]


@pytest.mark.parametrize("right", RIGHTS, ids=str)
def test_a_right_is_used(recorded: Recorded, right: Right) -> None:
    """Without it something of the scenario would have been refused; a right that nothing uses is not granted."""
    assert any(request.allowed and request.uses(right) for request in recorded.own)


def test_every_step_succeeded(recorded: Recorded) -> None:
    """Each step of the scenario saw what it waited for."""
    assert recorded.problems == []


def test_nothing_was_refused(recorded: Recorded) -> None:
    """The product does not ask for what its accounts may not do."""
    assert sorted(str(request) for request in recorded.own if not request.allowed) == []


def test_with_cert_manager_nothing_of_certificates_is_asked_for(recorded: Recorded) -> None:
    """The controller asks for nothing that needs the rights which are not granted then."""
    assert recorded.external
    assert all(request.allowed for request in recorded.external)
    certificates = [right for right in RIGHTS if right.role == "ledgergate-controller-certificates"]
    assert len(certificates) >= 10
    assert not [request for request in recorded.external if any(request.uses(right) for right in certificates)]
