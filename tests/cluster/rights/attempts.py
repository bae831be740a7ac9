"""What may be tried with the controller's token, and must be refused."""

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
NAMESPACE = "target"
HELD = "ledgergate.dev/ledger"
IMAGE = "ghcr.io/shop/app:1"
DIGEST = f"sha256:{'a' * 64}"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}"
HOOKS = "/apis/admissionregistration.k8s.io/v1"
OWN = "/api/v1/namespaces/ledgergate"
LEASES = "/apis/coordination.k8s.io/v1/namespaces"


@dataclass(frozen=True)
class Attempt:
    """One request.

    Args:
        what: what it would do.
        content: type of a PATCH.
        reads: it changes nothing, so that RBAC alone refuses it: no admission policy sees it.
    """

    what: str
    method: str
    path: str
    body: object = None
    content: str = "strategic-merge-patch"
    reads: bool = False
    query: tuple[tuple[str, str], ...] = ()


def _replace(path: str, value: object, op: str = "replace") -> list[Object]:
    return [{"op": op, "path": path, "value": value}]


def _image(pod: str, image: str, what: str) -> Attempt:
    body = _replace("/spec/containers/0/image", image)
    return Attempt(what, "PATCH", f"{PODS}/{pod}", body, "json-patch")


def _pod(what: str, pod: str, body: Object) -> Attempt:
    return Attempt(what, "PATCH", f"{PODS}/{pod}", body)


def _labels(**labels: str) -> Object:
    return {"metadata": {"labels": labels}}


def _annotations(**annotations: str) -> Object:
    return {"metadata": {"annotations": annotations}}


def _named(kind: str, name: str, namespace: str, **fields: object) -> Object:
    version = "coordination.k8s.io/v1" if kind == "Lease" else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **fields}


_NEW_POD = _named("Pod", "evil", NAMESPACE, spec={"containers": [{"name": "main", "image": "evil"}]})
_ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "evil"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": NAMESPACE}],
}
_TOKEN = {"kubernetes.io/service-account.name": "webhook"}
_CONFIGURATION = f"{HOOKS}/validatingwebhookconfigurations/ledgergate"
_MUTATING = f"{HOOKS}/mutatingwebhookconfigurations/ledgergate"
_READY = {"type": "Ready", "status": "Unknown"}

ATTEMPTS = (
    # Pods
    Attempt("create a pod", "POST", PODS, _NEW_POD),
    Attempt("delete a pod", "DELETE", f"{PODS}/free"),
    Attempt("delete a held pod that no StatefulSet owns", "DELETE", f"{PODS}/held"),
    Attempt("delete a held pod of a ReplicaSet", "DELETE", f"{PODS}/held-of-replicaset"),
    Attempt("delete a pod of a StatefulSet that is not held", "DELETE", f"{PODS}/free-of-statefulset"),
    Attempt("delete all pods", "DELETE", PODS),
    Attempt("run a command in a pod", "POST", f"{PODS}/free/exec", query=(("command", "id"), ("container", "main"))),
    Attempt(
        "add a debugging container",
        "PATCH",
        f"{PODS}/held/ephemeralcontainers",
        {"spec": {"ephemeralContainers": [{"name": "evil", "image": "evil"}]}},
    ),
    Attempt(
        "evict a pod",
        "POST",
        f"{PODS}/free/eviction",
        {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "free", "namespace": NAMESPACE}},
    ),
    Attempt(
        "bind a pod to a node",
        "POST",
        f"{PODS}/held/binding",
        {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "held"}, "target": {"kind": "Node", "name": "x"}},
    ),
    _image("free", f"ghcr.io/shop/app@{DIGEST}", "set the image of a pod that is not held"),
    _image("held", "ghcr.io/shop/app:2", "set another tag"),
    _image("held", "evil", "set another image"),
    _image("held", f"ghcr.io/shop/evil@{DIGEST}", "set another image by digest"),
    _image("held", f"evil.example/shop/app@{DIGEST}", "set the image of another registry by digest"),
    _image("held", f"ghcr.io/shop/.*@{DIGEST}", "set an image that is a pattern"),
    _image("held", "ghcr.io/shop/app@sha256:1", "set an image by something like a digest"),
    _pod("set a label of a pod", "free", _labels(app="other")),
    _pod("remove a label of a held pod", "held", {"metadata": {"labels": {"app": None}}}),
    _pod("set an annotation of a pod", "held", _annotations(other="x")),
    _pod("change an annotation of a pod", "held", _annotations(own="no")),
    _pod("set a finalizer", "held", {"metadata": {"finalizers": ["example.com/evil"]}}),
    _pod(
        "take off another tool's scheduling gate",
        "held",
        {"spec": {"schedulingGates": [{"$patch": "delete", "name": "test/other"}]}},
    ),
    _pod("choose the nodes of a held pod", "held", {"spec": {"nodeSelector": {"kubernetes.io/hostname": "evil"}}}),
    Attempt(
        "tolerate a taint",
        "PATCH",
        f"{PODS}/free",
        _replace("/spec/tolerations/-", {"key": "x", "operator": "Exists"}, "add"),
        "json-patch",
    ),
    _pod("end a pod by a deadline", "free", {"spec": {"activeDeadlineSeconds": 1}}),
    Attempt("take a pod out of its Service", "PATCH", f"{PODS}/free/status", {"status": {"conditions": [_READY]}}),
    Attempt("move a pod's address", "PATCH", f"{PODS}/free/status", {"status": {"podIP": "192.0.2.1"}}),
    Attempt("end a pod", "PATCH", f"{PODS}/free/status", {"status": {"phase": "Failed"}}),
    Attempt("label a pod by its status", "PATCH", f"{PODS}/free/status", _labels(app="other")),
    # Workloads
    Attempt("scale a Deployment", "PATCH", f"{APPS}/deployments/x", {"spec": {"replicas": 1}}),
    Attempt("scale a ReplicaSet", "PATCH", f"{APPS}/replicasets/x", {"spec": {"replicas": 1}}),
    Attempt(
        "scale it by its subresource", "PATCH", f"{APPS}/replicasets/x/scale", {"spec": {"replicas": 1}}, "merge-patch"
    ),
    Attempt(
        "set a StatefulSet's image",
        "PATCH",
        f"{APPS}/statefulsets/x",
        {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "evil"}]}}}},
    ),
    Attempt("set a DaemonSet's label", "PATCH", f"{APPS}/daemonsets/x", _labels(app="other")),
    Attempt("set another annotation", "PATCH", f"{APPS}/replicasets/x", _annotations(other="x")),
    Attempt(
        "start a suspended Job",
        "PATCH",
        f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/x",
        {"spec": {"suspend": False}},
    ),
    Attempt("delete a ReplicaSet", "DELETE", f"{APPS}/replicasets/x"),
    # Admission
    Attempt(
        "let our webhook fail open",
        "PATCH",
        _CONFIGURATION,
        _replace("/webhooks/0/failurePolicy", "Ignore"),
        "json-patch",
    ),
    Attempt(
        "send reviews to another server",
        "PATCH",
        _MUTATING,
        _replace("/webhooks/0/clientConfig", {"url": "https://192.0.2.1/mutate"}),
        "json-patch",
    ),
    Attempt(
        "send reviews to another Service",
        "PATCH",
        _MUTATING,
        _replace("/webhooks/0/clientConfig/service/name", "x"),
        "json-patch",
    ),
    Attempt(
        "review all namespaces",
        "PATCH",
        _MUTATING,
        [{"op": "remove", "path": "/webhooks/0/namespaceSelector"}],
        "json-patch",
    ),
    Attempt("review Secrets", "PATCH", _MUTATING, _replace("/webhooks/0/rules/0/resources", ["secrets"]), "json-patch"),
    Attempt("remove a webhook", "PATCH", _CONFIGURATION, [{"op": "remove", "path": "/webhooks/0"}], "json-patch"),
    Attempt("change another configuration", "PATCH", f"{HOOKS}/mutatingwebhookconfigurations/another", _labels(x="y")),
    Attempt("delete our configuration", "DELETE", _CONFIGURATION),
    # Secrets, Leases and the rest
    Attempt("read another's Secret", "GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/pg", reads=True),
    Attempt("list Secrets", "GET", "/api/v1/secrets", reads=True),
    Attempt("list its own namespace's Secrets", "GET", f"{OWN}/secrets", reads=True),
    Attempt("create a Secret", "POST", f"{OWN}/secrets", _named("Secret", "evil", "ledgergate")),
    Attempt(
        "create our Secret elsewhere",
        "POST",
        f"/api/v1/namespaces/{NAMESPACE}/secrets",
        _named("Secret", "ledgergate-ca", NAMESPACE),
    ),
    Attempt(
        "have a token made for another account",
        "POST",
        f"{OWN}/secrets",
        {
            **_named("Secret", "ledgergate-ca", "ledgergate", type="kubernetes.io/service-account-token"),
            "metadata": {"name": "ledgergate-ca", "annotations": _TOKEN},
        },
    ),
    Attempt(
        "ask for a token of another account",
        "POST",
        f"{OWN}/serviceaccounts/webhook/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    ),
    Attempt("create a Lease", "POST", f"{LEASES}/ledgergate/leases", _named("Lease", "evil", "ledgergate")),
    Attempt(
        "take a Lease elsewhere",
        "POST",
        f"{LEASES}/kube-system/leases",
        _named("Lease", "ledgergate-controller", "kube-system"),
    ),
    Attempt(
        "open a gate",
        "PATCH",
        f"/apis/ledgergate.dev/v1alpha1/namespaces/{NAMESPACE}/ledgergates/x",
        {"spec": {"mode": "Audit"}},
        "merge-patch",
    ),
    Attempt("opt a namespace out", "PATCH", f"/api/v1/namespaces/{NAMESPACE}", _labels(x="y")),
    Attempt("grant itself rights", "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", _ROLE),
    Attempt("drain a node", "PATCH", "/api/v1/nodes/node-0", {"spec": {"unschedulable": True}}),
)
