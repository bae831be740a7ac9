"""A control plane with ledgergate's manifests, without its processes, and the objects that a stolen token attacks."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.controlplane import ControlPlane
from testbed.waiting import until
from tests.cluster.rights.attempts import HELD, IMAGE, NAMESPACE, Attempt, Object
from webhook.kube.client import KubeClient
from webhook.kube.errors import ClusterError
from webhook.kube.kubeconfig import connect

MANIFESTS = Path(__file__).parents[3] / "manifests"
LEFT_OUT = {"Deployment", "PodDisruptionBudget", "Service"}
POLICY = "confine.ledgergate.dev"


@dataclass(frozen=True)
class Token:
    """The controller's token, and who has it.

    Args:
        plane: control plane.
        kubeconfig: the token's.
    """

    plane: ControlPlane
    kubeconfig: Path

    async def send(self, attempt: Attempt) -> str:
        """Send a request and return why it was refused; empty where it was not."""
        async with await connect(self.kubeconfig, "test") as cluster:
            try:
                await cluster.request(
                    attempt.method,
                    attempt.path,
                    query=dict(attempt.query),
                    body=attempt.body,
                    content=attempt.content if attempt.method == "PATCH" else "",
                )
            except ClusterError as error:
                return str(error)
            return ""

    def try_it(self, attempt: Attempt) -> str:
        """Do the same, outside an event loop."""
        return asyncio.run(self.send(attempt))


@pytest.fixture(scope="module")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """A control plane on which no controller interferes; neither policy nor webhooks hold a pod."""
    with ControlPlane(programs) as started:
        objects = list(yaml.safe_load_all(started.kubectl("kustomize", str(MANIFESTS / "base"))))
        first = [each for each in objects if each["kind"] in {"CustomResourceDefinition", "Namespace"}]
        started.apply(yaml.safe_dump_all(first))
        started.await_gate_kind()
        started.apply(yaml.safe_dump_all([each for each in objects if each["kind"] not in LEFT_OUT]))
        _create_targets(started)
        yield started


@pytest.fixture(scope="module")
def token(plane: ControlPlane) -> Token:
    """The controller's token, from the moment at which the policy is in force."""
    found = Token(plane, plane.kubeconfig_for("ledgergate", "controller"))
    body = {"metadata": {"labels": {"probe": "x"}}}
    probe = Attempt("", "PATCH", f"/api/v1/namespaces/{NAMESPACE}/pods/free", body, query=(("dryRun", "All"),))
    until("the policy to be in force", lambda: POLICY in found.try_it(probe))
    return found


@pytest.fixture
async def cluster(token: Token) -> AsyncIterator[KubeClient]:
    """A connection with the token."""
    async with await connect(token.kubeconfig, "test") as connected:
        yield connected


@pytest.fixture(scope="module")
def administrator(token: Token) -> Iterator[Token]:
    """The token of an account with every right in RBAC: what is refused is refused by the policy."""
    name = "test-everything"
    account = "--serviceaccount=ledgergate:controller"
    token.plane.kubectl("create", "clusterrolebinding", name, "--clusterrole=cluster-admin", account)
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "delete", "resource": "nodes"}},
    }

    async def allowed() -> bool:
        async with await connect(token.kubeconfig, "test") as cluster:
            path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            answer = json.loads(await cluster.request("POST", path, body=review))
            return bool(answer["status"]["allowed"])

    until("the binding to count", lambda: asyncio.run(allowed()))
    yield token
    token.plane.kubectl("delete", "clusterrolebinding", name)


def _create_targets(plane: ControlPlane) -> None:
    plane.create_namespace(NAMESPACE)
    template: Object = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"schedulingGates": [{"name": "test/never"}], "containers": [{"name": "main", "image": IMAGE}]},
    }
    selector = {"matchLabels": {"app": "x"}}
    apps: dict[str, Any] = {"apiVersion": "apps/v1"}
    job = {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}
    gate = {
        "selector": selector,
        "database": {"secretRef": {"name": "pg"}},
        "ledger": {"dialect": "ledgergate"},
    }
    for each in (
        _pod("free", []),
        *(_pod(name, [{"name": HELD}, {"name": "test/other"}]) for name in ("held", "pinned")),
        {**apps, "kind": "Deployment", "spec": {"replicas": 0, "selector": selector, "template": template}},
        {**apps, "kind": "ReplicaSet", "spec": {"replicas": 0, "selector": selector, "template": template}},
        {
            **apps,
            "kind": "StatefulSet",
            "spec": {"replicas": 0, "serviceName": "x", "selector": selector, "template": template},
        },
        {**apps, "kind": "DaemonSet", "spec": {"selector": selector, "template": template}},
        {"apiVersion": "batch/v1", "kind": "Job", "spec": {"suspend": True, "template": job}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pg"}, "stringData": {"url": "secret"}},
        {"apiVersion": "ledgergate.dev/v1alpha1", "kind": "LedgerGate", "spec": gate},
    ):
        metadata = {"name": "x", "namespace": NAMESPACE, **each.get("metadata", {})}
        plane.apply(yaml.safe_dump({**each, "metadata": metadata}))
    for kind, name, gates in (
        ("ReplicaSet", "held-of-replicaset", [{"name": HELD}]),
        ("StatefulSet", "free-of-statefulset", []),
    ):
        # An owner that exists, else the pod is collected as garbage; it is not the pod's controller.
        uid = plane.kubectl("get", kind, "x", "-n", NAMESPACE, "-o", "jsonpath={.metadata.uid}")
        pod = _pod(name, gates)
        owner = {"apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": uid}
        pod["metadata"] |= {"namespace": NAMESPACE, "ownerReferences": [owner]}
        plane.apply(yaml.safe_dump(pod))
    other = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "another"},
        "webhooks": [
            {
                "name": "another.example.com",
                "clientConfig": {"url": "https://127.0.0.1:1/x"},
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "namespaceSelector": {"matchLabels": {"never": "matches"}},
            }
        ],
    }
    plane.apply(yaml.safe_dump(other))


def _pod(name: str, gates: list[Object]) -> Object:
    spec: Object = {"containers": [{"name": "main", "image": IMAGE}, {"name": "side", "image": "side"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}, "annotations": {"own": "yes"}},
        "spec": {**spec, **({"schedulingGates": gates} if gates else {})},
    }
