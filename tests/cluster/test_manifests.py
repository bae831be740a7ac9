"""The manifests, judged by the real API server: accepted, effective, and granting no more than they should."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.controlplane import ControlPlane, ControlPlaneError

MANIFESTS = Path(__file__).parents[2] / "manifests"
CONFIGURATIONS = {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}
POLICY = {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}
OUR_GATE = {"name": "ledgergate.dev/ledger"}
OTHER_GATE = {"name": "example.com/quota"}
MIRROR = {"annotations": {"kubernetes.io/config.mirror": "0123"}}
CONTROLLER = "system:serviceaccount:ledgergate:controller"
WEBHOOK = "system:serviceaccount:ledgergate:webhook"
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
    plane.kubectl("wait", "--for=condition=Established", "crd/ledgergates.ledgergate.dev", "--timeout=10s")
    return plane


def unanswered(configuration: Object) -> Object:
    """Let a configuration's webhooks call a port where nobody listens: a request that is sent is seen to fail."""
    for webhook in configuration["webhooks"]:
        webhook["clientConfig"] = {"url": f"https://127.0.0.1:1{webhook['clientConfig']['service']['path']}"}
    return configuration


@pytest.fixture
def policy(installed: ControlPlane) -> Iterator[None]:
    """The in-process hold alone."""
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
    assert any(attempt() for _ in range(100))


def ungate(plane: ControlPlane, namespace: str, name: str, *flags: str) -> str:
    patch = json.dumps({"spec": {"schedulingGates": [{"$patch": "delete", **OUR_GATE}]}})
    return plane.kubectl("patch", "pod", name, "-n", namespace, "-p", patch, *flags)


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
    assert left_out == {f"{kind}/hold.ledgergate.dev" for kind in POLICY}


def test_our_own_pods_run_under_the_restricted_standard(installed: ControlPlane) -> None:
    """Pod security, quota and priority admit the Deployments' pods of our own namespace; kwok runs them."""
    for deployment in ("ledgergate-webhook", "ledgergate-controller"):
        installed.kubectl("rollout", "status", f"deployment/{deployment}", "-n", "ledgergate", "--timeout=20s")
    pods = json.loads(installed.kubectl("get", "pods", "-n", "ledgergate", "-o", "json"))["items"]
    assert sorted(each["spec"]["serviceAccountName"] for each in pods) == ["controller"] * 2 + ["webhook"] * 3
    assert {each["spec"]["containers"][0]["image"] for each in pods} == {"ledgergate:0.1.0"}
    assert {each["spec"]["priority"] for each in pods} == {2_000_000_000}


def test_applying_again_keeps_the_ca_bundle(installed: ControlPlane, webhooks: None) -> None:
    """What the controller wrote into a configuration survives `kubectl apply` of the manifests."""
    target = ("validatingwebhookconfiguration", "ledgergate")
    bundle = json.dumps([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "Zm9v"}])
    # Any text would do for a bundle, but the API server wants PEM where it checks one.
    pem = installed.ca.read_bytes()
    bundle = bundle.replace("Zm9v", __import__("base64").b64encode(pem).decode())
    installed.kubectl("patch", *target, "--type=json", "-p", bundle, "--field-manager=controller")
    apply(installed, [unanswered(each) for each in render(installed, "base") if each["kind"] in CONFIGURATIONS])
    kept = json.loads(installed.kubectl("get", *target, "-o", "json"))
    assert kept["webhooks"][0]["clientConfig"]["caBundle"]


def test_one_selector_for_policy_and_webhooks(installed: ControlPlane) -> None:
    """The hold and its guards speak of the same namespaces: a difference would be a gap or a trap."""
    selectors = []
    for each in render(installed, "base"):
        if each["kind"] == "MutatingAdmissionPolicy":
            selectors.append(each["spec"]["matchConstraints"]["namespaceSelector"])
        if each["kind"] in CONFIGURATIONS:
            selectors += [webhook["namespaceSelector"] for webhook in each["webhooks"]]
    assert len(selectors) == 4
    assert all(each == selectors[0] for each in selectors)


# LedgerGate -----------------------------------------------------------------------------------------------------------


def ledgergate(**spec: object) -> Object:
    return {
        "apiVersion": "ledgergate.dev/v1alpha1",
        "kind": "LedgerGate",
        "metadata": {"name": "app"},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "database": {"secretRef": {"name": "pg"}},
            "ledger": {"dialect": "ledgergate"},
            **spec,
        },
    }


def test_a_short_ledgergate_is_filled_with_the_defaults(installed: ControlPlane, namespace: str) -> None:
    """What the contract calls default is written into the object, where `kubectl get -o yaml` shows it."""
    spec = create(installed, namespace, ledgergate())["spec"]
    assert {key: spec[key] for key in spec if key not in {"selector", "database", "ledger"}} == {
        "mode": "Enforce",
        "onBehind": "Hold",
        "onAhead": "Allow",
        "onUndeclared": "Warn",
        "onUnreachable": "LastKnown",
        "readiness": "Off",
        "maxHold": "15m",
    }


CONTRACT = """
apiVersion: ledgergate.dev/v1alpha1
kind: LedgerGate
metadata: {name: cliscale}
spec:
  mode: Enforce
  selector: {matchLabels: {app.kubernetes.io/part-of: cliscale}}
  database:
    secretRef: {name: pg}
  ledger: {dialect: knex, schema: public, table: knex_migrations}
  expect: {env: EXPECTED_REVISION}
  onBehind: Hold
  onAhead: Allow
  onUndeclared: Warn
  onUnreachable: LastKnown
  readiness: Off
  maxHold: 15m
  bypass: {until: "2026-01-26T18:30:00Z", reason: "restoring from backup"}
"""


def test_the_documented_example_is_accepted_as_people_type_it(installed: ControlPlane, namespace: str) -> None:
    """The contract's own example passes, although kubectl reads its `readiness: Off` as the boolean false."""
    installed.kubectl("apply", "-n", namespace, "-f", "-", stdin=CONTRACT)
    stored = json.loads(installed.kubectl("get", "lgate", "cliscale", "-n", namespace, "-o", "json"))
    assert stored["spec"]["readiness"] is False


def test_the_columns_say_what_matters(installed: ControlPlane, namespace: str) -> None:
    """`kubectl get ledgergates` shows dialect, head, count, state and held pods, from the status subresource."""
    create(installed, namespace, ledgergate())
    seen = {"head": "20250126120000_add_users", "applied": 30, "state": "Current", "heldPods": 3}
    status = json.dumps({"status": seen})
    installed.kubectl("patch", "lgate", "app", "-n", namespace, "--subresource=status", "--type=merge", "-p", status)
    head, row = installed.kubectl("get", "ledgergates", "-n", namespace).splitlines()
    assert head.split() == ["NAME", "DIALECT", "HEAD", "APPLIED", "STATE", "HELD", "AGE"]
    assert row.split()[:-1] == ["app", "ledgergate", "20250126120000_add_users", "30", "Current", "3"]


def test_every_field_is_explained(installed: ControlPlane) -> None:
    """`kubectl explain --recursive` finds each field; each has a sentence."""
    for folder in ("spec", "status"):
        explained = installed.kubectl("explain", f"lgate.{folder}")
        assert "<no description>" not in explained
    crd = json.loads(installed.kubectl("get", "crd", "ledgergates.ledgergate.dev", "-o", "json"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert not [path for part in ("spec", "status") for path in undescribed(schema[part], part)]


def undescribed(schema: Object, path: str) -> Iterator[str]:
    if "description" not in schema:
        yield path
    for name, field in schema.get("properties", {}).items():
        yield from undescribed(field, f"{path}.{name}")
    for name, field in schema.get("items", {}).get("properties", {}).items():
        yield from undescribed(field, f"{path}[].{name}")


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"selector": None}, "spec.selector: Required value"),
        ({"database": {}}, "spec.database.secretRef: Required value"),
        ({"database": {"secretRef": {}}}, "spec.database.secretRef.name: Required value"),
        ({"database": {"secretRef": {"name": "Pg!"}}}, "spec.database.secretRef.name: Invalid value"),
        (
            {"database": {"secretRef": {"name": "pg", "namespace": "other"}}},
            'unknown field "spec.database.secretRef.namespace"',
        ),
        ({"ledger": {}}, "spec.ledger.dialect: Required value"),
        ({"ledger": {"dialect": ""}}, "spec.ledger.dialect: Invalid value"),
        (
            {"ledger": {"dialect": "knex", "table": "public.knex"}},
            "spec.ledger.table: Invalid value.*spec.ledger.schema",
        ),
        ({"ledger": {"dialect": "knex", "schema": ""}}, "spec.ledger.schema: Invalid value"),
        ({"mode": "enforce"}, 'spec.mode: Unsupported value: "enforce".*"Enforce", "Audit"'),
        ({"onBehind": "Allow"}, "spec.onBehind: Unsupported value"),
        ({"onAhead": "Hold"}, "spec.onAhead: Unsupported value"),
        ({"onUndeclared": "LastKnown"}, "spec.onUndeclared: Unsupported value"),
        ({"onUnreachable": "Warn"}, "spec.onUnreachable: Unsupported value"),
        ({"readiness": True}, "spec.readiness: Unsupported value"),
        ({"readiness": "On"}, "spec.readiness: Unsupported value"),
        ({"maxHold": "15 minutes"}, "spec.maxHold: Invalid value"),
        ({"maxHold": 15}, "spec.maxHold: Invalid value"),
        ({"expect": {"env": "A=B"}}, "spec.expect.env: Invalid value"),
        ({"bypass": {"until": "2026-01-26T18:30:00Z"}}, "spec.bypass.reason: Required value"),
        ({"bypass": {"until": "tomorrow", "reason": "x"}}, "spec.bypass.until: Invalid value"),
        ({"bypass": {"until": "2026-01-26T18:30:00Z", "reason": " "}}, "spec.bypass.reason: Invalid value"),
        ({"selector": {"matchLabels": {"app": "no spaces"}}}, "spec.selector.matchLabels.app: Invalid value"),
        (
            {"selector": {"matchExpressions": [{"key": "app", "operator": "Equals"}]}},
            r"spec.selector.matchExpressions\[0\].operator: Unsupported value",
        ),
        (
            {"selector": {"matchExpressions": [{"key": "app", "operator": "In"}]}},
            r"spec.selector.matchExpressions\[0\].values: .*need at least one value",
        ),
        (
            {"selector": {"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["x"]}]}},
            r"spec.selector.matchExpressions\[0\].values: .*take none",
        ),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_mistake_is_refused_by_the_name_of_its_field(
    installed: ControlPlane, changed: Object, complaint: str
) -> None:
    """Each kind of mistake is answered with the field and what may stand there."""
    subject = ledgergate(**changed)
    subject["spec"] = {key: value for key, value in subject["spec"].items() if value is not None}
    with pytest.raises(ControlPlaneError) as refused:
        create(installed, "default", subject, "--dry-run=server")
    assert re.search(complaint, str(refused.value), re.DOTALL), refused.value


def test_a_name_that_fits_no_annotation_is_refused(installed: ControlPlane) -> None:
    """A LedgerGate's name becomes part of an annotation's, which may have 63 characters."""
    subject = ledgergate()
    subject["metadata"]["name"] = "x" * 64
    with pytest.raises(ControlPlaneError, match="at most 63 characters"):
        create(installed, "default", subject, "--dry-run=server")


def test_an_empty_selector_means_every_pod(installed: ControlPlane) -> None:
    """`selector: {}` is accepted, as in a NetworkPolicy; leaving it out is not."""
    create(installed, "default", ledgergate(selector={}), "--dry-run=server")


def test_the_example_namespace_opts_in(installed: ControlPlane) -> None:
    """The example applies as it stands; its Role is bound to our accounts, wherever the namespace transformer ran."""
    objects = render(installed, "examples/cliscale")
    apply(installed, [each for each in objects if each["kind"] == "Namespace"])
    apply(installed, objects)
    verdicts = rights(installed, *((who, "get", "secrets", "ws-cli", "pg") for who in (WEBHOOK, CONTROLLER)))
    assert verdicts == [True, True]
    installed.kubectl("delete", "namespace", "ws-cli", "--wait=false")


# The hold -------------------------------------------------------------------------------------------------------------


def test_the_policy_alone_holds_every_new_pod(installed: ControlPlane, policy: None, guarded: str) -> None:
    """In an opted-in namespace every pod comes out with our gate once, our label, and whatever it had before."""
    eventually(lambda: gates(create(installed, guarded, pod("probe"), "--dry-run=server")) == [OUR_GATE["name"]])
    labelled = {"labels": {"app": "x"}}
    for name, own in {"plain": [], "other": [OTHER_GATE], "ours": [OUR_GATE], "both": [OTHER_GATE, OUR_GATE]}.items():
        created = create(installed, guarded, pod(name, *own, metadata=labelled))
        assert gates(created) == sorted({OUR_GATE["name"], *(gate["name"] for gate in own)})
        assert created["metadata"]["labels"] == {"app": "x", "ledgergate.dev/gated": "true"}


def test_the_policy_touches_nothing_else(installed: ControlPlane, policy: None, guarded: str) -> None:
    """Pods of other namespaces, of our own and of those in audit, and pods that have their node, stay as they are."""
    eventually(lambda: gates(create(installed, guarded, pod("probe"), "--dry-run=server")) == [OUR_GATE["name"]])
    assert gates(create(installed, guarded, pod("bound", nodeName="node-0"), "--dry-run=server")) == []
    assert gates(create(installed, "default", pod("plain"), "--dry-run=server")) == []
    installed.kubectl("label", "namespace", "kube-system", "ledgergate.dev/admission=enabled")
    assert gates(create(installed, "kube-system", pod("plain"), "--dry-run=server")) == []
    installed.kubectl("label", "namespace", guarded, "--overwrite", "ledgergate.dev/admission=audit")
    eventually(lambda: gates(create(installed, guarded, pod("plain"), "--dry-run=server")) == [])


def test_a_held_deployment_waits_unscheduled(installed: ControlPlane, policy: None, guarded: str) -> None:
    """A Deployment's pods exist, gated, and none is scheduled until the controller's hand takes the gate off."""
    eventually(lambda: gates(create(installed, guarded, pod("probe"), "--dry-run=server")) == [OUR_GATE["name"]])
    installed.kubectl("create", "deployment", "app", "--image=app", "--replicas=2", "-n", guarded)
    selected = ("pods", "-l", "app=app", "-n", guarded)
    installed.kubectl("wait", "--for=create", *selected, "--timeout=10s")
    installed.kubectl("wait", "--for=jsonpath={.status.conditions[0].reason}=SchedulingGated", *selected)
    name = installed.kubectl("get", *selected, "-o", "name").split()[0].removeprefix("pod/")
    ungate(installed, guarded, name, f"--as={CONTROLLER}")
    installed.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", guarded, "--timeout=10s")


# The final word, while nobody answers ---------------------------------------------------------------------------------


REFUSED = "failed calling webhook.*verdict.ledgergate.dev"


def refused(plane: ControlPlane, namespace: str, subject: Object, *flags: str) -> bool:
    try:
        create(plane, namespace, subject, "--dry-run=server", *flags)
    except ControlPlaneError as error:
        assert re.search(REFUSED, str(error)), error
        return True
    return False


def test_no_pod_without_our_gate(installed: ControlPlane, webhooks: None, guarded: str) -> None:
    """Without policy and webhook a pod is denied, a pod that brings our gate is not; other namespaces do not notice."""
    eventually(lambda: refused(installed, guarded, pod("plain")))
    assert refused(installed, guarded, pod("other", OTHER_GATE))
    assert refused(installed, guarded, pod("bound", nodeName="node-0"))
    assert not refused(installed, guarded, pod("ours", OUR_GATE))
    assert not refused(installed, "default", pod("plain"))
    installed.kubectl("label", "namespace", "ledgergate", "ledgergate.dev/admission=enabled")
    restricted = json.loads(installed.kubectl("get", "pods", "-n", "ledgergate", "-o", "json"))["items"][0]["spec"]
    assert not refused(installed, "ledgergate", {**pod("own"), "spec": {**restricted, "nodeName": ""}})


def test_with_the_policy_our_outage_denies_nothing(
    installed: ControlPlane, policy: None, webhooks: None, guarded: str
) -> None:
    """Policy on, webhook dead: pods are created, held; one that has its node already is denied."""
    eventually(lambda: refused(installed, guarded, pod("bound", nodeName="node-0")))
    eventually(lambda: not refused(installed, guarded, pod("probe")))
    assert gates(create(installed, guarded, pod("plain"))) == [OUR_GATE["name"]]


def test_nobody_but_the_controller_takes_the_gate_off(installed: ControlPlane, webhooks: None, guarded: str) -> None:
    """Not even an administrator; any other change of the pod goes through, its end too."""
    eventually(lambda: refused(installed, guarded, pod("plain")))
    finalized = {"finalizers": ["test.ledgergate.dev/wait"]}
    create(installed, guarded, pod("held", OUR_GATE, OTHER_GATE, metadata=finalized))
    with pytest.raises(ControlPlaneError, match=REFUSED):
        ungate(installed, guarded, "held")
    installed.kubectl("label", "pod", "held", "-n", guarded, "app=x")
    other = json.dumps({"spec": {"schedulingGates": [{"$patch": "delete", **OTHER_GATE}]}})
    installed.kubectl("patch", "pod", "held", "-n", guarded, "-p", other)
    ungate(installed, guarded, "held", f"--as={CONTROLLER}", "--dry-run=server")
    installed.kubectl("delete", "pod", "held", "-n", guarded, "--wait=false")
    ungate(installed, guarded, "held")
    gone = json.dumps({"metadata": {"finalizers": None}})
    installed.kubectl("patch", "pod", "held", "-n", guarded, "-p", gone)


def test_a_mirror_pod_passes_only_from_a_kubelet(installed: ControlPlane, webhooks: None, guarded: str) -> None:
    """The annotation alone opens nothing; a node's own user is believed."""
    binding = "clusterrolebinding", "test-kubelets"
    installed.kubectl("create", *binding, "--clusterrole=system:node", "--group=system:nodes")
    mirror = pod("static-node-0", metadata=MIRROR, nodeName="node-0")
    eventually(lambda: refused(installed, guarded, mirror))
    assert not refused(installed, guarded, mirror, *KUBELET)
    assert refused(installed, guarded, pod("bound", nodeName="node-0"), *KUBELET)
    installed.kubectl("delete", *binding)


# Rights ---------------------------------------------------------------------------------------------------------------


Right = tuple[str, str, str, str, str]
RESOURCE = re.compile(r"(?P<resource>[a-z]+)(/(?P<subresource>[a-z]+))?(\.(?P<group>.*))?")

GRANTED: list[Right] = [
    *((WEBHOOK, verb, "ledgergates.ledgergate.dev", "default", "") for verb in ("get", "list", "watch")),
    *((WEBHOOK, verb, "secrets", "ledgergate", "ledgergate-ca") for verb in ("get", "watch")),
    *((CONTROLLER, verb, "ledgergates.ledgergate.dev", "default", "") for verb in ("get", "list", "watch")),
    *((CONTROLLER, verb, "ledgergates/status.ledgergate.dev", "default", "app") for verb in ("get", "patch")),
    *((CONTROLLER, verb, "pods", "default", "") for verb in ("get", "list", "watch", "patch")),
    *((CONTROLLER, verb, "events", "default", "") for verb in ("create", "patch")),
    *((CONTROLLER, verb, "events.events.k8s.io", "default", "") for verb in ("create", "patch")),
    *(
        (CONTROLLER, verb, f"{kind}webhookconfigurations.admissionregistration.k8s.io", "", "ledgergate")
        for kind in ("mutating", "validating")
        for verb in ("get", "patch")
    ),
    (CONTROLLER, "create", "leases.coordination.k8s.io", "ledgergate", ""),
    *(
        (CONTROLLER, verb, "leases.coordination.k8s.io", "ledgergate", "ledgergate-controller")
        for verb in ("get", "update")
    ),
    (CONTROLLER, "create", "secrets", "ledgergate", ""),
    *((CONTROLLER, verb, "secrets", "ledgergate", "ledgergate-ca") for verb in ("get", "update", "watch")),
]

REFUSED_RIGHTS: list[Right] = [
    *((who, "get", "secrets", "default", "pg") for who in (WEBHOOK, CONTROLLER)),
    *((who, verb, "secrets", "ledgergate", "") for who in (WEBHOOK, CONTROLLER) for verb in ("list", "watch")),
    *((who, "get", "secrets", "ledgergate", "another") for who in (WEBHOOK, CONTROLLER)),
    *((who, verb, "secrets", "", "") for who in (WEBHOOK, CONTROLLER) for verb in ("get", "list", "watch")),
    *((WEBHOOK, verb, "secrets", "ledgergate", "ledgergate-ca") for verb in ("update", "patch", "delete")),
    *((WEBHOOK, verb, "pods", "default", "") for verb in ("get", "list", "create", "patch", "update", "delete")),
    (WEBHOOK, "create", "secrets", "ledgergate", ""),
    (WEBHOOK, "patch", "ledgergates/status.ledgergate.dev", "default", "app"),
    (WEBHOOK, "create", "events", "default", ""),
    (WEBHOOK, "get", "leases.coordination.k8s.io", "ledgergate", "ledgergate-controller"),
    *((CONTROLLER, verb, "pods", "default", "") for verb in ("create", "update", "delete")),
    (CONTROLLER, "create", "pods/exec", "default", "app"),
    *((CONTROLLER, verb, "ledgergates.ledgergate.dev", "default", "app") for verb in ("patch", "update", "delete")),
    (CONTROLLER, "create", "secrets", "default", ""),
    (CONTROLLER, "delete", "secrets", "ledgergate", "ledgergate-ca"),
    (CONTROLLER, "patch", "validatingwebhookconfigurations.admissionregistration.k8s.io", "", "another"),
    (CONTROLLER, "delete", "validatingwebhookconfigurations.admissionregistration.k8s.io", "", "ledgergate"),
    (CONTROLLER, "patch", "mutatingadmissionpolicies.admissionregistration.k8s.io", "", "hold.ledgergate.dev"),
    (CONTROLLER, "update", "leases.coordination.k8s.io", "ledgergate", "another"),
    (CONTROLLER, "get", "leases.coordination.k8s.io", "kube-system", "ledgergate-controller"),
]


def rights(plane: ControlPlane, *asked: Right) -> list[bool]:
    """Ask, as `kubectl auth can-i` does, many rights at once: who, verb, resource, namespace, name."""
    reviews = []
    for who, verb, what, namespace, name in asked:
        matched = RESOURCE.fullmatch(what)
        assert matched
        attributes = {key: value for key, value in matched.groupdict().items() if value}
        attributes |= {"verb": verb, "namespace": namespace, "name": name}
        reviews.append(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {"user": who, "resourceAttributes": attributes},
            }
        )
    answers = plane.kubectl(
        "create", "-f", "-", "-o", "jsonpath={.status.allowed}\n", stdin=yaml.safe_dump_all(reviews)
    )
    return [answer == "true" for answer in answers.split()]


def test_each_account_may_do_its_work(installed: ControlPlane) -> None:
    """Every right that the webhook and the controller need is granted."""
    assert [right for right, allowed in zip(GRANTED, rights(installed, *GRANTED), strict=True) if not allowed] == []


def test_each_account_may_do_nothing_else(installed: ControlPlane) -> None:
    """Above all no Secret but the CA's, until a namespace grants the one that its LedgerGates name."""
    answers = rights(installed, *REFUSED_RIGHTS)
    assert [right for right, allowed in zip(REFUSED_RIGHTS, answers, strict=True) if allowed] == []


def test_a_namespace_grants_its_one_secret(installed: ControlPlane, namespace: str) -> None:
    """The Role of manifests/namespace opens Secret `pg` of its namespace to both accounts, and no other."""
    apply(installed, render(installed, "namespace"), "-n", namespace)
    asked = [
        (who, verb, "secrets", namespace, name)
        for who in (WEBHOOK, CONTROLLER)
        for name in ("pg", "another")
        for verb in ("get", "watch")
    ]
    assert rights(installed, *asked) == [True, True, False, False] * 2
