"""The manifests, judged by the real API server: accepted, effective, and granting no more than they should."""

import asyncio
import base64
import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.controlplane import ControlPlane, ControlPlaneError
from testbed.waiting import until
from webhook.kube.kubeconfig import connect

MANIFESTS = Path(__file__).parents[2] / "manifests"
CONFIGURATIONS = {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}
POLICY = {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}
OUR_GATE = {"name": "ledgergate.dev/ledger"}
OTHER_GATE = {"name": "example.com/quota"}
MIRROR = {"annotations": {"kubernetes.io/config.mirror": "0123"}}
KUBELET = ("--as=system:node:node-0", "--as-group=system:nodes")

Object = dict[str, Any]


@pytest.fixture(scope="module")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """A control plane of this file's own: what the manifests do alone must not depend on a running ledgergate."""
    with ControlPlane(programs) as started:
        yield started


def render(plane: ControlPlane, folder: str) -> list[Object]:
    return list(yaml.safe_load_all(plane.kubectl("kustomize", str(MANIFESTS / folder))))


def apply(plane: ControlPlane, objects: list[Object], *flags: str) -> str:
    return plane.kubectl("apply", "--server-side", *flags, "-f", "-", stdin=yaml.safe_dump_all(objects))


def identities(objects: list[Object]) -> set[str]:
    return {f"{each['kind']}/{each['metadata']['name']}" for each in objects}


@pytest.fixture(scope="module")
def installed(plane: ControlPlane) -> ControlPlane:
    """The base, without policy and webhook configurations: each test says whether it wants those."""
    objects = [each for each in render(plane, "base") if each["kind"] not in CONFIGURATIONS | POLICY]
    apply(plane, [each for each in objects if each["kind"] == "Namespace"])
    apply(plane, objects)
    plane.kubectl("wait", "--for=condition=Established", "crd/ledgergates.ledgergate.dev", "--timeout=120s")
    return plane


def unanswered(configuration: Object) -> Object:
    """Point a configuration's webhooks at a port without a listener, so that every call of them fails visibly."""
    for webhook in configuration["webhooks"]:
        webhook["clientConfig"] = {"url": f"https://127.0.0.1:1{webhook['clientConfig']['service']['path']}"}
    return configuration


@pytest.fixture
def policy(installed: ControlPlane) -> Iterator[None]:
    """The admission policy, without the webhooks."""
    objects = [each for each in render(installed, "base") if each["kind"] in POLICY]
    yield from _registered(installed, objects)


@pytest.fixture
def webhooks(installed: ControlPlane) -> Iterator[None]:
    """Both webhook configurations, and no webhook."""
    objects = [unanswered(each) for each in render(installed, "base") if each["kind"] in CONFIGURATIONS]
    yield from _registered(installed, objects)


def _registered(plane: ControlPlane, objects: list[Object]) -> Iterator[None]:
    apply(plane, objects)
    yield
    plane.kubectl("delete", "--wait", *identities(objects))


@pytest.fixture
def guarded(installed: ControlPlane, namespace: str) -> str:
    """A namespace that opted in."""
    installed.kubectl("label", "namespace", namespace, "ledgergate.dev/admission=enabled")
    return namespace


def pod(name: str, *gates: Object, metadata: Object | None = None, **spec: object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **(metadata or {})},
        "spec": {"schedulingGates": list(gates), "containers": [{"name": "app", "image": "app"}], **spec},
    }


def create(plane: ControlPlane, namespace: str, subject: Object, *flags: str) -> Object:
    command = ("create", "-n", namespace, "-o", "json", "-f", "-", *flags)
    created: Object = json.loads(plane.kubectl(*command, stdin=json.dumps(subject)))
    return created


def gates(subject: Object) -> list[str]:
    return sorted(gate["name"] for gate in subject["spec"].get("schedulingGates", []))


def eventually(attempt: Callable[[], bool]) -> None:
    """Wait for the API server's own caches, which learn of a registration a moment after it is stored."""
    until("the registration to count", attempt)


def ungate(plane: ControlPlane, namespace: str, name: str) -> str:
    patch = json.dumps({"spec": {"schedulingGates": [{"$patch": "delete", **OUR_GATE}]}})
    return plane.kubectl("patch", "pod", name, "-n", namespace, "-p", patch)


def ungate_as_controller(plane: ControlPlane, namespace: str, name: str) -> None:
    """Remove the gate with the controller's token; kubectl would read the pod first, which the controller may not."""
    patch = {"spec": {"schedulingGates": [{"$patch": "delete", **OUR_GATE}]}}

    async def send() -> None:
        async with await connect(plane.kubeconfig_for("ledgergate", "controller"), "test") as cluster:
            path = f"/api/v1/namespaces/{namespace}/pods/{name}"
            await cluster.request("PATCH", path, body=patch, content="strategic-merge-patch")

    asyncio.run(send())


# Installing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["base", "overlays/before-1.36"])
def test_the_api_server_accepts_every_object(installed: ControlPlane, folder: str) -> None:
    """A server-side dry run of everything succeeds, and no object is overlooked."""
    objects = render(installed, folder)
    said = apply(installed, objects, "--dry-run=server")
    assert len(said.splitlines()) == len(objects) >= 20


def test_the_component_leaves_out_the_policy_and_nothing_else(installed: ControlPlane) -> None:
    """Before 1.36 there is everything but the policy, which such an API server does not know."""
    left_out = identities(render(installed, "base")) - identities(render(installed, "overlays/before-1.36"))
    assert left_out == {f"{kind}/{name}.ledgergate.dev" for kind in POLICY for name in ("hold", "bypass")}


def test_our_own_pods_run_under_the_restricted_standard(installed: ControlPlane) -> None:
    """Pod security, quota and priority admit the Deployments' pods in ledgergate's namespace; kwok runs them."""
    for deployment in ("ledgergate-webhook", "ledgergate-controller"):
        installed.kubectl("rollout", "status", f"deployment/{deployment}", "-n", "ledgergate", "--timeout=120s")
    pods = json.loads(installed.kubectl("get", "pods", "-n", "ledgergate", "-o", "json"))["items"]
    assert sorted(each["spec"]["serviceAccountName"] for each in pods) == ["controller"] * 2 + ["webhook"] * 3
    assert {each["spec"]["containers"][0]["image"] for each in pods} == {"ledgergate:0.1.0"}
    assert {each["spec"]["priority"] for each in pods} == {2_000_000_000}


@pytest.mark.usefixtures("webhooks")
def test_applying_again_keeps_the_ca_bundle(installed: ControlPlane) -> None:
    """What the controller wrote into a configuration survives `kubectl apply` of the manifests."""
    target = ("validatingwebhookconfiguration", "ledgergate")
    pem = base64.b64encode(installed.ca.read_bytes()).decode()
    bundle = json.dumps([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": pem}])
    installed.kubectl("patch", *target, "--type=json", "-p", bundle, "--field-manager=controller")
    apply(installed, [unanswered(each) for each in render(installed, "base") if each["kind"] in CONFIGURATIONS])
    kept = json.loads(installed.kubectl("get", *target, "-o", "json"))
    assert kept["webhooks"][0]["clientConfig"]["caBundle"] == pem


def test_one_selector_for_policy_and_webhooks(installed: ControlPlane) -> None:
    """The hold and its guards select the same namespaces, audit selects others: a difference would be a gap or a trap.

    A bypass counts wherever its LedgerGate is, since its namespace may be opted in later.
    """
    objects = render(installed, "base")
    policy = next(each for each in objects if each["metadata"]["name"] == "hold.ledgergate.dev")
    enabled = policy["spec"]["matchConstraints"]["namespaceSelector"]
    audited = copy.deepcopy(enabled)
    audited["matchExpressions"][0]["values"] = ["audit"]
    selectors = {
        webhook["name"].removesuffix(".ledgergate.dev"): webhook.get("namespaceSelector")
        for each in objects
        if each["kind"] in CONFIGURATIONS
        for webhook in each["webhooks"]
    }
    freeze = next(each for each in objects if each["metadata"]["name"] == "freeze.ledgergate.dev")
    assert freeze["spec"]["matchConstraints"]["namespaceSelector"] == enabled
    # One of the two that hold is called for each of these namespaces, and never both.
    for name, operator in (("hold", "NotIn"), ("wait", "In")):
        term = {"key": "ledgergate.dev/undeclared", "operator": operator, "values": ["wait"]}
        selectors[name]["matchExpressions"].remove(term)
    assert selectors == {
        **dict.fromkeys(("hold", "wait", "verdict", "relabel", "deny", "workload"), enabled),
        **dict.fromkeys(("audit", "workload-audit"), audited),
        "bypass": None,
    }


def test_only_the_final_word_fails_closed(installed: ControlPlane) -> None:
    """An outage of ledgergate costs a second at most, and stops only a pod that would slip past the gate."""
    webhooks = [
        hook for each in render(installed, "base") if each["kind"] in CONFIGURATIONS for hook in each["webhooks"]
    ]
    closed = {hook["name"] for hook in webhooks if hook["failurePolicy"] == "Fail"}
    assert closed == {"verdict.ledgergate.dev", "relabel.ledgergate.dev"}
    assert all(hook["timeoutSeconds"] == 1 for hook in webhooks if hook["name"] not in closed)
    paths = [hook["clientConfig"]["service"]["path"] for hook in webhooks]
    assert len(set(paths)) == len(paths), "webhooks of one path would be counted as one"


def test_the_example_is_accepted(installed: ControlPlane) -> None:
    """The example applies unchanged, and its Role is bound to the controller, the one reader of Secrets."""
    objects = render(installed, "examples/cliscale")
    binding = next(each for each in objects if each["kind"] == "RoleBinding")
    assert [(who["namespace"], who["name"]) for who in binding["subjects"]] == [("ledgergate", "controller")]
    apply(installed, [each for each in objects if each["kind"] == "Namespace"])
    assert len(apply(installed, objects, "--dry-run=server").splitlines()) == len(objects)


# The hold -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("policy")
def test_the_policy_alone_holds_every_new_pod(installed: ControlPlane, guarded: str) -> None:
    """In an opted-in namespace every pod has the gate once and the label, and keeps what it had before."""
    eventually(lambda: gates(create(installed, guarded, pod("probe"), "--dry-run=server")) == [OUR_GATE["name"]])
    labelled = {"labels": {"app": "x"}}
    for name, own in {"plain": [], "other": [OTHER_GATE], "ours": [OUR_GATE], "both": [OTHER_GATE, OUR_GATE]}.items():
        created = create(installed, guarded, pod(name, *own, metadata=labelled))
        assert gates(created) == sorted({OUR_GATE["name"], *(gate["name"] for gate in own)})
        assert created["metadata"]["labels"] == {"app": "x", "ledgergate.dev/gated": "true"}


@pytest.mark.usefixtures("policy")
def test_the_policy_touches_nothing_else(installed: ControlPlane, guarded: str) -> None:
    """Pods of other namespaces, of ledgergate's and of those in audit, and pods that have a node, are unchanged."""
    eventually(lambda: gates(create(installed, guarded, pod("probe"), "--dry-run=server")) == [OUR_GATE["name"]])
    assert gates(create(installed, guarded, pod("bound", nodeName="node-0"), "--dry-run=server")) == []
    assert gates(create(installed, "default", pod("plain"), "--dry-run=server")) == []
    installed.kubectl("label", "namespace", "kube-system", "ledgergate.dev/admission=enabled")
    assert gates(create(installed, "kube-system", pod("plain"), "--dry-run=server")) == []
    installed.kubectl("label", "namespace", guarded, "--overwrite", "ledgergate.dev/admission=audit")
    eventually(lambda: gates(create(installed, guarded, pod("plain"), "--dry-run=server")) == [])


@pytest.mark.usefixtures("policy")
def test_a_held_deployment_waits_unscheduled(installed: ControlPlane, guarded: str) -> None:
    """A Deployment's pods exist, gated, and none is scheduled until the controller's account removes the gate."""
    eventually(lambda: gates(create(installed, guarded, pod("probe"), "--dry-run=server")) == [OUR_GATE["name"]])
    installed.kubectl("create", "deployment", "app", "--image=app", "--replicas=2", "-n", guarded)
    selected = ("pods", "-l", "app=app", "-n", guarded)
    installed.kubectl("wait", "--for=create", *selected, "--timeout=120s")
    installed.kubectl("wait", "--for=jsonpath={.status.conditions[0].reason}=SchedulingGated", *selected)
    name = installed.kubectl("get", *selected, "-o", "name").split()[0].removeprefix("pod/")
    ungate_as_controller(installed, guarded, name)
    installed.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", guarded, "--timeout=120s")


# The validating webhook, while it is down -----------------------------------------------------------------------------


REFUSED = "failed calling webhook.*verdict.ledgergate.dev"


def refused(plane: ControlPlane, namespace: str, subject: Object, *flags: str) -> bool:
    """Return whether a dry run of the creation calls the webhook, which does not answer; raise any other failure."""
    try:
        create(plane, namespace, subject, "--dry-run=server", *flags)
    except ControlPlaneError as error:
        if not re.search(REFUSED, str(error)):
            raise
        return True
    return False


@pytest.mark.usefixtures("webhooks")
def test_no_pod_without_our_gate(installed: ControlPlane, guarded: str) -> None:
    """Without policy and webhook a pod is denied unless it has the gate; other namespaces are not affected."""
    eventually(lambda: refused(installed, guarded, pod("plain")))
    assert refused(installed, guarded, pod("other", OTHER_GATE))
    assert refused(installed, guarded, pod("bound", nodeName="node-0"))
    assert not refused(installed, guarded, pod("ours", OUR_GATE))
    assert not refused(installed, "default", pod("plain"))
    installed.kubectl("label", "namespace", "ledgergate", "ledgergate.dev/admission=enabled")
    restricted = json.loads(installed.kubectl("get", "pods", "-n", "ledgergate", "-o", "json"))["items"][0]["spec"]
    assert not refused(installed, "ledgergate", {**pod("own"), "spec": {**restricted, "nodeName": ""}})


@pytest.mark.usefixtures("policy", "webhooks")
def test_with_the_policy_our_outage_denies_nothing(installed: ControlPlane, guarded: str) -> None:
    """Policy on, webhook dead: pods are created and held; a pod that already has a node is denied."""
    eventually(lambda: refused(installed, guarded, pod("bound", nodeName="node-0")))
    eventually(lambda: not refused(installed, guarded, pod("probe")))
    assert gates(create(installed, guarded, pod("plain"))) == [OUR_GATE["name"]]


@pytest.mark.usefixtures("webhooks")
def test_only_the_controller_may_remove_the_gate(installed: ControlPlane, guarded: str) -> None:
    """Not even an administrator may. Other changes go through: of the pod, of its end, and of a released pod."""
    eventually(lambda: refused(installed, guarded, pod("plain")))
    create(installed, guarded, pod("released", OUR_GATE))
    ungate_as_controller(installed, guarded, "released")
    installed.kubectl("label", "pod", "released", "-n", guarded, "app=x")
    finalized = {"finalizers": ["test.ledgergate.dev/wait"]}
    create(installed, guarded, pod("held", OUR_GATE, OTHER_GATE, metadata=finalized))
    with pytest.raises(ControlPlaneError, match=REFUSED):
        ungate(installed, guarded, "held")
    with pytest.raises(ControlPlaneError, match=r"failed calling webhook.*relabel\.ledgergate\.dev"):
        installed.kubectl("label", "pod", "held", "-n", guarded, "app=x")
    installed.kubectl("annotate", "pod", "held", "-n", guarded, "app=x")
    other = json.dumps({"spec": {"schedulingGates": [{"$patch": "delete", **OTHER_GATE}]}})
    installed.kubectl("patch", "pod", "held", "-n", guarded, "-p", other)
    installed.kubectl("delete", "pod", "held", "-n", guarded, "--wait=false")
    ungate(installed, guarded, "held")
    gone = json.dumps({"metadata": {"finalizers": None}})
    installed.kubectl("patch", "pod", "held", "-n", guarded, "-p", gone)


@pytest.mark.usefixtures("webhooks")
def test_a_mirror_pod_passes_only_from_a_kubelet(installed: ControlPlane, guarded: str) -> None:
    """The annotation alone opens nothing; a node's own user is believed."""
    binding = "clusterrolebinding", "test-kubelets"
    installed.kubectl("create", *binding, "--clusterrole=system:node", "--group=system:nodes")
    mirror = pod("static-node-0", metadata=MIRROR, nodeName="node-0")
    eventually(lambda: refused(installed, guarded, mirror))
    assert not refused(installed, guarded, mirror, *KUBELET)
    assert refused(installed, guarded, pod("bound", nodeName="node-0"), *KUBELET)
    installed.kubectl("delete", *binding)
