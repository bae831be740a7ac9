"""The rights of ledgergate's service accounts and of people, by the API server's authorizer."""

import re
from pathlib import Path

import pytest
import yaml

from testbed.controlplane import ControlPlane
from testbed.waiting import until

MANIFESTS = Path(__file__).parents[2] / "manifests"
CONTROLLER = "system:serviceaccount:ledgergate:controller"
WEBHOOK = "system:serviceaccount:ledgergate:webhook"


@pytest.fixture(scope="module")
def roles(plane: ControlPlane) -> ControlPlane:
    for name in ("namespace", "roles-webhook", "roles-controller", "roles-certificates", "roles-people"):
        plane.kubectl("apply", "--server-side", "-f", str(MANIFESTS / "chart/files/base" / f"{name}.yaml"))
    return plane


Right = tuple[str, str, str, str, str]
RESOURCE = re.compile(r"(?P<resource>[a-z]+)(/(?P<subresource>[a-z]+))?(\.(?P<group>.*))?")

GRANTED: list[Right] = [
    *((WEBHOOK, verb, "ledgergates.ledgergate.dev", "default", "") for verb in ("list", "watch")),
    *((WEBHOOK, verb, "secrets", "ledgergate", "ledgergate-ca") for verb in ("get", "list", "watch")),
    *(
        (WEBHOOK, verb, f"{kind}webhookconfigurations.admissionregistration.k8s.io", "", "ledgergate")
        for kind in ("mutating", "validating")
        for verb in ("list", "watch")
    ),
    *(
        (WEBHOOK, verb, "leases.coordination.k8s.io", "ledgergate", "ledgergate-controller")
        for verb in ("list", "watch")
    ),
    *((CONTROLLER, verb, "ledgergates.ledgergate.dev", "default", "") for verb in ("list", "watch")),
    (CONTROLLER, "patch", "ledgergates/status.ledgergate.dev", "default", "app"),
    *((CONTROLLER, verb, "pods", "default", "") for verb in ("list", "watch", "patch")),
    (CONTROLLER, "patch", "pods/status", "default", "app"),
    *((CONTROLLER, verb, "namespaces", "", "") for verb in ("get", "list", "watch")),
    *((CONTROLLER, verb, "servicecidrs.networking.k8s.io", "", "") for verb in ("list", "watch")),
    *(
        (CONTROLLER, verb, kind, "default", "")
        for kind in ("replicasets.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch")
        for verb in ("list", "patch")
    ),
    (CONTROLLER, "get", "replicasets.apps", "default", ""),
    (CONTROLLER, "create", "events.events.k8s.io", "default", ""),
    *(
        (CONTROLLER, verb, f"{kind}webhookconfigurations.admissionregistration.k8s.io", "", "ledgergate")
        for kind in ("mutating", "validating")
        for verb in ("get", "list", "watch", "patch")
    ),
    (CONTROLLER, "create", "leases.coordination.k8s.io", "ledgergate", ""),
    *(
        (CONTROLLER, verb, "leases.coordination.k8s.io", "ledgergate", "ledgergate-controller")
        for verb in ("get", "update", "patch")
    ),
    (CONTROLLER, "create", "secrets", "ledgergate", ""),
    *((CONTROLLER, verb, "secrets", "ledgergate", "ledgergate-ca") for verb in ("get", "list", "update", "watch")),
]

WRITING = ("create", "update", "patch", "delete")

REFUSED_RIGHTS: list[Right] = [
    *((who, "get", "secrets", "default", "pg") for who in (WEBHOOK, CONTROLLER)),
    *((who, verb, "secrets", "ledgergate", "") for who in (WEBHOOK, CONTROLLER) for verb in ("list", "watch")),
    *((who, "get", "secrets", "ledgergate", "another") for who in (WEBHOOK, CONTROLLER)),
    *((who, verb, "secrets", "", "") for who in (WEBHOOK, CONTROLLER) for verb in ("get", "list", "watch")),
    *((WEBHOOK, verb, "secrets", "ledgergate", "ledgergate-ca") for verb in ("update", "patch", "delete")),
    *((WEBHOOK, verb, "pods", "default", "") for verb in ("get", "list", "create", "patch", "update", "delete")),
    (WEBHOOK, "create", "secrets", "ledgergate", ""),
    *(
        (WEBHOOK, verb, "validatingwebhookconfigurations.admissionregistration.k8s.io", "", "ledgergate")
        for verb in WRITING
    ),
    (WEBHOOK, "list", "validatingwebhookconfigurations.admissionregistration.k8s.io", "", "another"),
    (WEBHOOK, "patch", "ledgergates/status.ledgergate.dev", "default", "app"),
    (WEBHOOK, "create", "events", "default", ""),
    (WEBHOOK, "list", "leases.coordination.k8s.io", "ledgergate", ""),
    (WEBHOOK, "get", "leases.coordination.k8s.io", "ledgergate", "another"),
    *((WEBHOOK, verb, "leases.coordination.k8s.io", "ledgergate", "ledgergate-controller") for verb in WRITING),
    *((CONTROLLER, verb, "pods", "default", "") for verb in ("get", "create", "update", "delete")),
    *((CONTROLLER, verb, "deployments.apps", "default", "") for verb in ("get", "list", "patch")),
    *((CONTROLLER, "get", kind, "default", "x") for kind in ("statefulsets.apps", "daemonsets.apps", "jobs.batch")),
    (CONTROLLER, "create", "events", "default", ""),
    (CONTROLLER, "patch", "events.events.k8s.io", "default", "x"),
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


def test_each_account_may_do_its_work(roles: ControlPlane) -> None:
    """Every right that the webhook and the controller need is granted."""
    assert [right for right, allowed in zip(GRANTED, rights(roles, *GRANTED), strict=True) if not allowed] == []


def test_each_account_may_do_nothing_else(roles: ControlPlane) -> None:
    """Above all no Secret but the CA's, until a namespace grants the one that its LedgerGates name."""
    answers = rights(roles, *REFUSED_RIGHTS)
    assert [right for right, allowed in zip(REFUSED_RIGHTS, answers, strict=True) if allowed] == []


@pytest.mark.parametrize("account", [CONTROLLER, WEBHOOK])
def test_the_page_lists_what_kubectl_lists(roles: ControlPlane, account: str) -> None:
    """`kubectl auth can-i --list` prints the rows of docs/hardening.md, and those of any account."""

    def rows(who: str) -> set[tuple[str, str, str]]:
        text = roles.kubectl(
            "auth", "can-i", "--list", "-n", "ledgergate", f"--as={who}", "--as-group=system:authenticated"
        )
        cells = (re.findall(r"^(\S*) +\[.*?\] +(\[.*?\]) +(\[.*?\])$", line) for line in text.splitlines()[1:])
        return {
            (what, names, f"[{' '.join(sorted(verbs[1:-1].split()))}]")
            for ((what, names, verbs),) in filter(None, cells)
        }

    page = (Path(__file__).parents[2] / "docs/hardening.md").read_text()
    section = page.partition(f"--as {account}\n")[2].partition("```")[0]
    expected = {tuple(re.split(r"  +", line)) for line in section.splitlines()[1:]}
    assert len(expected) >= 5
    assert rows(account) - rows("system:serviceaccount:ledgergate:unknown") == expected


def test_a_namespace_grants_its_one_secret(roles: ControlPlane, namespace: str) -> None:
    """The Role of manifests/namespace lets the controller alone read Secret `pg`, watch none, and read no other."""
    roles.kubectl("apply", "-n", namespace, "-k", str(MANIFESTS / "namespace"))
    asked = [
        (who, verb, "secrets", namespace, name)
        for who in (WEBHOOK, CONTROLLER)
        for name in ("pg", "another")
        for verb in ("get", "watch")
    ]
    assert rights(roles, *asked) == [False] * 4 + [True, False, False, False]


def test_people_have_the_rights_of_their_cluster_roles(roles: ControlPlane, namespace: str) -> None:
    """The role view may read LedgerGates, the role edit may also create and change them; others may do neither."""
    for who in ("view", "edit"):
        roles.kubectl("create", "rolebinding", who, f"--clusterrole={who}", f"--user={who}", "-n", namespace)
    asked = [
        (who, verb, "ledgergates.ledgergate.dev", namespace, "")
        for who in ("view", "edit", "other")
        for verb in ("get", "list", "create", "patch", "delete")
    ]
    expected = [True, True, False, False, False, *[True] * 5, *[False] * 5]
    until("the controller manager to add them up", lambda: rights(roles, *asked) == expected)
