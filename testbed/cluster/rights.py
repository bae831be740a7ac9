"""The rights that the manifests grant to each account, and those that requests in an API server's audit log used."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts:ledgergate"]}, {"level": "None"}],
}
"""https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/"""


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One verb on one resource, as a rule of a role grants it.

    Args:
        account: name of the service account.
        role: name of the Role or ClusterRole.
        namespace: where it counts; empty for the whole cluster.
        group: API group; empty for the core group.
        resource: plural, with the subresource: ``pods/status``.
        name: the only object; empty for any.
    """

    account: str
    role: str
    namespace: str
    group: str
    resource: str
    name: str
    verb: str

    def __str__(self) -> str:
        return (
            f"{self.account}: {self.verb} {self.resource}{f'.{self.group}' if self.group else ''} {self.name}".strip()
        )


def granted(objects: Iterable[Mapping[str, Any]]) -> Iterator[Right]:
    """Yield every right that role bindings among some objects grant to service accounts."""
    roles, bindings = dict[tuple[str, str, str], list[Any]](), []
    for each in objects:
        place = each["metadata"].get("namespace", "")
        if each["kind"] in {"Role", "ClusterRole"}:
            roles[each["kind"], place, each["metadata"]["name"]] = each["rules"]
        elif each["kind"] in {"RoleBinding", "ClusterRoleBinding"}:
            bindings.append((place, each["roleRef"], each["subjects"]))
    for place, ref, subjects in bindings:
        for rule in roles[ref["kind"], place if ref["kind"] == "Role" else "", ref["name"]]:
            for subject in subjects:
                yield from _expand(subject["name"], ref["name"], place, rule)


def _expand(account: str, role: str, namespace: str, rule: Mapping[str, Any]) -> Iterator[Right]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for name in rule.get("resourceNames", [""]):
                for verb in rule["verbs"]:
                    yield Right(account, role, namespace, group, resource, name, verb)


def listed(rights: Iterable[Right]) -> list[tuple[str, str, str]]:
    """Return some rights as `kubectl auth can-i --list` prints them: resources, resource names and verbs."""
    verbs = dict[tuple[str, str], set[str]]()
    for right in rights:
        resource, _, sub = right.resource.partition("/")
        # kubectl's notation: pods/status, ledgergates.ledgergate.dev/status
        where = resource + (f".{right.group}" if right.group else "") + (f"/{sub}" if sub else "")
        verbs.setdefault((where, f"[{right.name}]"), set()).add(right.verb)
    return [(*key, f"[{' '.join(sorted(each))}]") for key, each in sorted(verbs.items())]


@dataclass(frozen=True, slots=True)
class Request:
    """A request in the audit log.

    Args:
        account: name of the service account.
        namespace: of the object or collection; empty for the cluster's.
        allowed: whether RBAC allowed it.
    """

    account: str
    namespace: str
    group: str
    resource: str
    name: str
    verb: str
    allowed: bool

    def uses(self, right: Right) -> bool:
        """Return whether the right allows the request."""
        return (
            (self.account, self.group, self.resource, self.verb)
            == (right.account, right.group, right.resource, right.verb)
            and right.namespace in {"", self.namespace}
            and right.name in {"", self.name}
        )


def audited(log: Path, since: int = 0) -> set[Request]:
    """Return the requests for objects in an audit log, each kind once.

    Args:
        since: bytes of the log to skip.
    """
    found = set()
    for line in log.read_bytes()[since:].splitlines():
        event = json.loads(line)
        reference = event.get("objectRef")
        if reference is None:
            continue  # /openapi and the like
        decision = event.get("annotations", {}).get("authorization.k8s.io/decision")
        sub = reference.get("subresource", "")
        found.add(
            Request(
                account=event["user"]["username"].rpartition(":")[2],
                namespace=reference.get("namespace", ""),
                group=reference.get("apiGroup", ""),
                resource=reference["resource"] + (f"/{sub}" if sub else ""),
                name=reference.get("name", ""),
                verb=event["verb"],
                allowed=decision != "forbid",
            )
        )
    return found
