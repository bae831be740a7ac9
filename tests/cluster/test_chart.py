"""The chart, installed by the real helm: webhook and controller are run from the pods that it makes, by its Service."""

import base64
import datetime as dt
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.application import SECOND, THIRD, Application, migrate, write_migrations
from tests.cluster.controlplane import ControlPlane
from tests.cluster.controlplane.certificates import Authority
from tests.cluster.custom_resources import MissingError, definitions
from tests.cluster.helm import Helm, HelmError
from tests.cluster.pod_processes import PodProcesses
from tests.cluster.service_proxy import ServiceProxy
from tests.waiting import until

CHART = str(Path(__file__).parents[2] / "manifests/chart")
# Neither is the default: nothing may depend on them.
RELEASE, NAMESPACE = "platform", "guard"
AT = (RELEASE, "-n", NAMESPACE)
SMALL = ("--set", "webhook.replicas=2,controller.replicas=2")
PARTS = ("webhook", "controller")
ADMISSION_KINDS = (
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
)
CHANGED = ("--reset-then-reuse-values", "--set-string", "webhook.podAnnotations.a=b,controller.podAnnotations.a=b")
CONFIGURATIONS = ("mutatingwebhookconfiguration/ledgergate", "validatingwebhookconfiguration/ledgergate")


@pytest.fixture(scope="module")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """A control plane of this file's own: the chart's cluster-scoped objects are installed once in a cluster."""
    with ControlPlane(programs) as started:
        yield started


class Guard:
    """The chart's release, and its pods as processes."""

    def __init__(self, helm: Helm, plane: ControlPlane, pods: PodProcesses) -> None:
        self.helm = helm
        self.plane = plane
        self.pods = pods

    def get(self, what: str) -> dict[str, Any]:
        """Read an object of the release's namespace, or of the cluster."""
        found: dict[str, Any] = json.loads(self.plane.kubectl("get", what, "-n", NAMESPACE, "-o", "json"))
        return found

    def await_ready(self) -> None:
        """Wait until the rollouts are over, every process is ready, and the webhook is trusted."""
        self.plane.kubectl(
            "rollout", "status", "-n", NAMESPACE, "deployment/ledgergate-webhook", "--timeout=60s", timeout=70
        )
        try:
            until("ready processes", self._ready, timeout=60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.pods.logs()}") from error
        until("a caBundle in each webhook", lambda: all(self.bundles()))

    def bundles(self) -> list[str]:
        """The caBundle of every webhook, or nothing."""
        hooks = [hook for name in CONFIGURATIONS for hook in self.get(name)["webhooks"]]
        return [hook["clientConfig"].get("caBundle", "") for hook in hooks]

    def _ready(self) -> bool:
        wanted = {name: self.get(f"deployment/ledgergate-{name}")["spec"]["replicas"] for name in PARTS}
        return all(
            len(running := self.pods.running(name)) == wanted[name] and all(each.ready() for each in running)
            for name in PARTS
        )


@pytest.fixture(scope="module")
def guard(helm: Helm, plane: ControlPlane) -> Iterator[Guard]:
    """The chart as `helm install` leaves it."""
    plane.kubectl("create", "namespace", NAMESPACE)
    helm("install", *AT, CHART, *SMALL)
    with PodProcesses(plane, NAMESPACE) as pods:
        found = Guard(helm, plane, pods)
        with ServiceProxy(pods, found.get("service/ledgergate-webhook")):
            found.await_ready()
            yield found


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    return write_migrations(tmp_path / "migrations")


@pytest.fixture
def application(guard: Guard, namespace: str, database: str) -> Application:
    """An application whose namespace opted in the chart's way: a value, a label, an object."""
    grants = json.dumps([{"namespace": namespace, "secrets": ["pg"]}])
    guard.helm("upgrade", *AT, CHART, "--reset-then-reuse-values", "--set-json", f"databases={grants}")
    found = Application(guard.plane, namespace)
    found.secret(database)
    found.gate()
    guard.plane.kubectl("label", "namespace", namespace, "ledgergate.dev/admission=enabled")
    until("the gate's first status", lambda: found.status().get("state"))
    return found


def test_pods_wait_for_the_ledger(guard: Guard, application: Application, database: str, migrations: Path) -> None:
    """Installed by helm alone, reached by its Service: pods are held until the migration, and others start at once."""
    migrate(migrations, database, "--to", SECOND)
    application.deploy("early", THIRD)
    application.deploy("good", SECOND)
    application.await_running("good")
    held = application.await_held("early")
    assert "denied the request" in application.try_to_ungate(held[0])
    migrate(migrations, database)
    application.await_running("early")
    answered = "".join(each.metrics() for each in guard.pods.running("webhook"))
    assert re.search(r'ledgergate_admission_requests_total\{outcome="\w+",reason="Matches".* [1-9]', answered)


def test_an_upgrade_and_its_rollback_go_unnoticed(
    guard: Guard, application: Application, database: str, migrations: Path
) -> None:
    """Both replace every pod of ours; the caBundle stays, held pods stay held, no pod is refused meanwhile."""
    migrate(migrations, database, "--to", SECOND)
    application.deploy("early", THIRD, replicas=1)
    application.await_held("early", 1)
    before, bundles = guard.pods.running(), guard.bundles()
    revision = guard.helm.history(RELEASE, NAMESPACE)[-1]["revision"]
    for number, step in enumerate((("upgrade", *AT, CHART, *CHANGED), ("rollback", RELEASE, str(revision), *AT[1:]))):
        guard.helm(*step)
        application.deploy(f"during-{number}", SECOND)
        application.await_running(f"during-{number}")
        guard.await_ready()
        assert not {each.name for each in before} & {each.name for each in guard.pods.running()}
        assert guard.bundles() == bundles
        application.await_held("early", 1)
        events = guard.plane.kubectl("get", "events", "-n", application.namespace, "--field-selector=type=Warning")
        assert "FailedCreate" not in events
        before = guard.pods.running()
    template = guard.get("deployment/ledgergate-webhook")["spec"]["template"]
    assert "annotations" not in template["metadata"], "the rollback took the upgrade's change back"
    migrate(migrations, database)
    application.await_running("early", 1)


def test_of_two_upgrades_at_once_one_is_refused(guard: Guard) -> None:
    """Helm lets one through and tells the other so; the release is whole afterwards, and we go on serving."""
    values = [("--set-string", f"webhook.podAnnotations.try={number}") for number in range(2)]
    tries = [guard.helm.start("upgrade", *AT, CHART, "--reset-then-reuse-values", *value) for value in values]
    said = [each.communicate(timeout=120)[1] for each in tries]
    won = [number for number, each in enumerate(tries) if each.returncode == 0]
    assert won, said
    for number, words in enumerate(said):
        assert number in won or re.search("another operation .* is in progress|already exists", words), words
    assert [each["status"] for each in guard.helm.history(RELEASE, NAMESPACE)].count("deployed") == 1
    template = guard.get("deployment/ledgergate-webhook")["spec"]["template"]
    assert template["metadata"]["annotations"]["try"] == str(won[-1]) or len(won) == 2
    guard.await_ready()


def test_a_second_installation_is_refused(guard: Guard, namespace: str) -> None:
    """The policy and the webhooks of a cluster have one owner; helm says whose they are."""
    with pytest.raises(
        HelmError, match=f'"meta.helm.sh/release-name" must equal "other": current value is "{RELEASE}"'
    ):
        guard.helm("install", "other", "-n", namespace, CHART)
    guard.plane.kubectl("get", "mutatingadmissionpolicies", "hold.ledgergate.dev")


def test_uninstalling_frees_every_pod(guard: Guard, application: Application, database: str, migrations: Path) -> None:
    """No pod is left gated or unready; nothing of ours stays but what people wrote: their LedgerGates, and the CRD."""
    migrate(migrations, database, "--to", SECOND)
    application.gate(readiness="Live")
    until("the gate to be read again", lambda: application.status().get("observedGeneration") == 2)
    application.deploy("early", THIRD, replicas=20)
    application.await_held("early", 20)
    assert any(pod["spec"].get("readinessGates") for pod in application.pods("early"))
    guard.helm("uninstall", *AT)
    application.await_running("early", 20)
    ready = ("wait", "--for=condition=Ready", "pods", "-l", "app=early", "--timeout=30s")
    guard.plane.kubectl(*ready, "-n", application.namespace, timeout=40)
    application.deploy("late", THIRD)
    application.await_running("late")
    assert application.status()["state"]
    kinds = "all,pdb,sa,roles,rolebindings,resourcequotas,clusterroles,clusterrolebindings," + ",".join(
        f"{kind}.admissionregistration.k8s.io" for kind in ADMISSION_KINDS
    )
    left = guard.plane.kubectl("get", kinds, "-n", NAMESPACE, "-o", "name", "-l", "app.kubernetes.io/name=ledgergate")
    assert left == ""
    named = guard.plane.kubectl("get", kinds, "-n", NAMESPACE, "-o", "name")
    assert "ledgergate" not in named.replace("configmap/", "")


@pytest.fixture
def cert_manager(plane: ControlPlane) -> Iterator[None]:
    """Its kinds, on the plane."""
    try:
        files = [file for file in definitions() if "cert-manager" in file.name]
    except MissingError as reason:
        pytest.skip(str(reason))
    flags = [flag for file in files for flag in ("-f", str(file))]
    plane.kubectl("apply", "--server-side", *flags)
    plane.kubectl("wait", "--for=condition=Established", *flags, "--timeout=20s")
    yield
    plane.kubectl("delete", *flags)


@pytest.mark.usefixtures("cert_manager")
def test_with_cert_manager_the_certificate_is_its(
    guard: Guard, namespace: str, database: str, migrations: Path
) -> None:
    """The webhook serves the Certificate's Secret, and the controller leaves certificates and caBundle to cert-manager.

    The test does cert-manager's work: it issues what the Certificate asks for, and injects where the annotation says.
    """
    plane = guard.plane
    guard.helm("uninstall", *AT, "--ignore-not-found")
    plane.kubectl("delete", "secret", "ledgergate-ca", "-n", NAMESPACE)
    grants = json.dumps([{"namespace": namespace, "secrets": ["pg"]}])
    authority = Authority(dt.datetime.now(dt.UTC))
    guard.helm(
        "install", *AT, CHART, *SMALL, "--set", "certificates.manager=cert-manager", "--set-json", f"databases={grants}"
    )
    certificate = guard.get("certificates.cert-manager.io/ledgergate-webhook")["spec"]
    pair = authority.server(certificate["dnsNames"], [])
    secret = {"tls.crt": pair.certificate.decode(), "tls.key": pair.key.decode()}
    name = {"name": certificate["secretName"], "namespace": NAMESPACE}
    plane.apply(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": name, "stringData": secret}))
    bundle = base64.b64encode(authority.pem).decode()
    for configuration in CONFIGURATIONS:
        found = guard.get(configuration)
        assert found["metadata"]["annotations"]["cert-manager.io/inject-ca-from"] == f"{NAMESPACE}/ledgergate-webhook"
        steps = [
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
            for index in range(len(found["webhooks"]))
        ]
        plane.kubectl("patch", configuration, "--type=json", "-p", json.dumps(steps))
    with ServiceProxy(guard.pods, guard.get("service/ledgergate-webhook")):
        guard.await_ready()
        application = Application(plane, namespace)
        application.secret(database)
        application.gate()
        plane.kubectl("label", "namespace", namespace, "ledgergate.dev/admission=enabled")
        until("the gate's first status", lambda: application.status().get("state"))
        application.deploy("early", THIRD)
        held = application.await_held("early")
        assert "denied the request" in application.try_to_ungate(held[0])
        migrate(migrations, database)
        application.await_running("early")
        assert set(guard.bundles()) == {bundle}
        assert "ledgergate-ca" not in plane.kubectl("get", "secrets", "-n", NAMESPACE, "-o", "name")
        guard.helm("uninstall", *AT)
