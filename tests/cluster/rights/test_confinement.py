"""The controller's token, stolen: what RBAC and the policy `confine.ledgergate.dev` refuse, and what still works."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from testbed.controlplane import ControlPlane
from tests.cluster.rights.attempts import ATTEMPTS, DIGEST, HOOKS, NAMESPACE, PODS, Attempt
from tests.cluster.rights.conftest import POLICY, Token
from webhook.api.objects import Metadata, Pod
from webhook.api.owners import OwnerKind
from webhook.certificates import CaSecretStore, WebhookConfigurations
from webhook.core.patches import pin_patch, release_patch
from webhook.kube.client import KubeClient

IDS = [attempt.what for attempt in ATTEMPTS]
WRITES = [attempt for attempt in ATTEMPTS if not attempt.reads]


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=IDS)
async def test_a_stolen_token_is_refused(token: Token, attempt: Attempt) -> None:
    """By a missing right, or by the policy; never by chance, such as an object that does not exist."""
    refusal = await token.send(attempt)
    assert refusal.startswith("403: "), refusal or "done"
    assert POLICY in refusal or " cannot " in refusal


@pytest.mark.parametrize("attempt", WRITES, ids=[attempt.what for attempt in WRITES])
async def test_the_policy_refuses_without_rbac(administrator: Token, attempt: Attempt) -> None:
    """An account that was granted every right by mistake can still do no more."""
    refusal = await administrator.send(attempt)
    assert POLICY in refusal, refusal or "done"


def stored(plane: ControlPlane, name: str) -> Pod:
    """Return a pod as the controller reads it."""
    return msgspec.json.decode(plane.kubectl("get", "pod", name, "-n", NAMESPACE, "-o", "json"), type=Pod)


# What the controller does ---------------------------------------------------------------------------------------------


async def test_a_pod_is_released_and_pinned(plane: ControlPlane, cluster: KubeClient) -> None:
    """One patch takes our gate off and puts digests in place of tags; the other tool's gate stays."""
    pod = stored(plane, "pinned")
    images = {"ghcr.io/shop/app:1": f"ghcr.io/shop/app@{DIGEST}", "side": f"docker.io/library/side@{DIGEST}"}
    await cluster.patch_pod(pod.metadata, release_patch(pod) + pin_patch(pod, images))
    after = json.loads(plane.kubectl("get", "pod", "pinned", "-n", NAMESPACE, "-o", "json"))
    assert [each["image"] for each in after["spec"]["containers"]] == list(images.values())
    assert after["spec"]["schedulingGates"] == [{"name": "test/other"}]


@pytest.mark.parametrize(
    ("image", "pinned"),
    [
        ("app", f"docker.io/library/app@{DIGEST}"),
        ("app:v1.2_x-Y", f"docker.io/library/app@{DIGEST}"),
        ("library/app:1", f"docker.io/library/app@{DIGEST}"),
        ("shop/app:1", f"docker.io/shop/app@{DIGEST}"),
        ("docker.io/app:1", f"docker.io/library/app@{DIGEST}"),
        ("index.docker.io/shop/app:1", f"docker.io/shop/app@{DIGEST}"),
        ("GHCR.io/shop/app", f"ghcr.io/shop/app@{DIGEST}"),
        ("localhost:5000/shop/app:1", f"localhost:5000/shop/app@{DIGEST}"),
        ("[2001:db8::1]:5000/app:1", f"[2001:db8::1]:5000/app@sha512:{'a' * 128}"),
    ],
)
async def test_every_form_of_an_image_can_be_pinned(
    plane: ControlPlane, cluster: KubeClient, image: str, pinned: str
) -> None:
    """Whatever is left out of an image's name and filled in by the controller: the pod would stay held otherwise."""
    spec = {"containers": [{"name": "main", "image": "x"}], "initContainers": [{"name": "first", "image": image}]}
    gate = {"schedulingGates": [{"name": "ledgergate.dev/ledger"}]}
    body = {"metadata": {"generateName": "form-"}, "spec": {**spec, **gate}}
    pod = stored(plane, plane.api.create(PODS, body)["metadata"]["name"])
    await cluster.patch_pod(pod.metadata, release_patch(pod) + pin_patch(pod, {image: pinned}))


async def test_a_terminating_pod_is_released(plane: ControlPlane, cluster: KubeClient) -> None:
    """A pod with finalizers and a grace period is compared like any other."""
    body = {
        "metadata": {"generateName": "ending-", "finalizers": ["test.ledgergate.dev/wait"]},
        "spec": {
            "containers": [{"name": "main", "image": "x"}],
            "schedulingGates": [{"name": "ledgergate.dev/ledger"}],
        },
    }
    name = plane.api.create(PODS, body)["metadata"]["name"]
    plane.kubectl("delete", "pod", name, "-n", NAMESPACE, "--wait=false")
    pod = stored(plane, name)
    await cluster.patch_pod(pod.metadata, release_patch(pod))
    plane.api.merge(f"{PODS}/{name}", {"metadata": {"finalizers": None}})


async def test_conditions_of_a_pod_are_written(plane: ControlPlane, cluster: KubeClient) -> None:
    """Conditions of ledgergate's types are written on a running pod; those of the kubelet stay."""
    pod = stored(plane, "free")
    for status in ("False", "True"):
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {
            "type": "ledgergate.dev/x",
            "status": status,
            "reason": "x",
            "message": "",
            "lastTransitionTime": stamp,
        }
        await cluster.patch_pod_conditions(pod.metadata, [condition])
    found = {each.type: each.status for each in stored(plane, "free").status.conditions or ()}
    assert found["ledgergate.dev/x"] == "True"
    assert len(found) > 1


@pytest.mark.parametrize("kind", OwnerKind)
async def test_owners_are_woken(plane: ControlPlane, cluster: KubeClient, kind: OwnerKind) -> None:
    """The annotation that wakes an owner is written the first time and each later time, beside those of others."""
    owner = await cluster.owners_short_of_pods(kind, NAMESPACE, cached=False)
    del owner  # listing is allowed; the owners of the test have no pods to lack
    found = json.loads(plane.kubectl("get", kind.plural, "x", "-n", NAMESPACE, "-o", "json"))
    metadata = Metadata(namespace=NAMESPACE, name="x", uid=found["metadata"]["uid"])
    for year in (2030, 2031):
        await cluster.wake(kind, metadata, datetime(year, 1, 1, tzinfo=UTC))
        plane.kubectl("annotate", kind.plural, "x", "-n", NAMESPACE, f"other=x{year}", "--overwrite")
    after = json.loads(plane.kubectl("get", kind.plural, "x", "-n", NAMESPACE, "-o", "json"))["metadata"]["annotations"]
    assert after["ledgergate.dev/released-at"] == "2031-01-01T00:00:00Z"


async def test_certificates_are_kept(plane: ControlPlane, cluster: KubeClient) -> None:
    """The CA Secret is created and replaced, with what others wrote on it; caBundle is written, once and again."""
    store = CaSecretStore(cluster, "ledgergate", "ledgergate-ca")
    assert await store.create({"ca.crt": b"1"})
    plane.kubectl("annotate", "secret", "ledgergate-ca", "-n", "ledgergate", "tool.example/sync=no")
    await store.read()
    assert await store.replace({"ca.crt": b"2", "tls.key": b"x"})
    bundle = plane.ca.read_bytes()
    for each in (bundle, bundle + bundle):
        await WebhookConfigurations(cluster).publish(each)
    assert await WebhookConfigurations(cluster).published() == bundle + bundle
    hooks = await cluster.request("GET", f"{HOOKS}/validatingwebhookconfigurations/ledgergate")
    assert b'"service"' in hooks


async def test_status_events_and_lease_are_written(cluster: KubeClient) -> None:
    """A LedgerGate's status, an Event in any namespace, and the one Lease."""
    await cluster.patch_gate_status(NAMESPACE, "x", {"state": "Ready"})
    event = {
        "metadata": {"name": "x", "namespace": NAMESPACE},
        "eventTime": "2030-01-01T00:00:00.000000Z",
        "action": "Hold",
        "reason": "Held",
        "type": "Normal",
        "reportingController": "ledgergate.dev/controller",
        "reportingInstance": "x",
        "regarding": {"kind": "Pod", "name": "free", "namespace": NAMESPACE},
    }
    await cluster.create_event(NAMESPACE, event)
    leases = "/apis/coordination.k8s.io/v1/namespaces/ledgergate/leases"
    lease = {"metadata": {"name": "ledgergate-controller"}, "spec": {"holderIdentity": "x"}}
    await cluster.request("POST", leases, body=lease)
    patch = [{"op": "remove", "path": "/spec/holderIdentity"}]
    await cluster.request("PATCH", f"{leases}/ledgergate-controller", body=patch, content="json-patch")


async def test_other_accounts_are_not_confined(plane: ControlPlane) -> None:
    """The policy does not apply to an administrator, nor to the webhook's account, which has its own refusals."""
    plane.api.merge(f"{PODS}/free", {"metadata": {"labels": {"other": "yes"}}})
    plane.kubectl("annotate", "replicaset", "x", "-n", NAMESPACE, "other=yes", "--overwrite")
