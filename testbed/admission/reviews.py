"""AdmissionReviews about a pod, as the API server sends them, of a given size."""

import json
from typing import Any


def review(namespace: str, revision: str, size: int) -> bytes:
    """Return a review of the creation of a pod that declares a revision.

    Args:
        size: about how many bytes; more of them are more containers, with their environments.
    """
    pod = _pod(namespace, revision)
    found = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": _request(namespace, pod)}
    containers: list[Any] = pod["spec"]["containers"]
    while len(encoded := json.dumps(found, separators=(",", ":")).encode()) < size:
        containers.append(_container(len(containers)))
    return encoded


def _request(namespace: str, pod: dict[str, Any]) -> dict[str, Any]:
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    return {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "name": pod["metadata"]["name"],
        "namespace": namespace,
        "operation": "CREATE",
        "userInfo": {
            "username": "system:serviceaccount:kube-system:replicaset-controller",
            "uid": "35dcb0ed-2f0c-4d4e-9b0c-2b8f0c8f6f9e",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
        },
        "object": pod,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }


def _pod(namespace: str, revision: str) -> dict[str, Any]:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "gateway-7c9d8f", "uid": "a", "controller": True}
    token = {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    toleration = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "gateway-7c9d8f-x2x",
            "generateName": "gateway-7c9d8f-",
            "namespace": namespace,
            "uid": "11111111-2222-3333-4444-555555555555",
            "labels": {"app": "gateway", "guarded": "true", "pod-template-hash": "7c9d8f"},
            "annotations": {"ledgergate.dev/revision": revision},
            "ownerReferences": [owner],
        },
        "spec": {
            "schedulerName": "default-scheduler",
            "serviceAccountName": "default",
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "volumes": [{"name": "kube-api-access-x", "projected": {"sources": [token]}}],
            "tolerations": [{**toleration, "tolerationSeconds": 300}],
            "containers": [],
        },
        "status": {},
    }


def _container(number: int) -> dict[str, Any]:
    mount = "/var/run/secrets/kubernetes.io/serviceaccount"
    return {
        "name": f"container-{number}",
        "image": "registry.example.com/team/app:v1.2.3",
        "args": ["--serve"],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": f"SETTING_{index}", "value": "a value of usual length"} for index in range(8)],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        "volumeMounts": [{"name": "kube-api-access-x", "mountPath": mount, "readOnly": True}],
        "imagePullPolicy": "IfNotPresent",
    }
