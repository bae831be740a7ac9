"""Whether an owner lacks pods, and whether it waits for nothing but its controller's next retry."""

from typing import Any

import msgspec
import pytest

from webhook.api.owners import Owner, OwnerKind, lacks_pods, waits_for_retry, was_refused_by_ledgergate

RS, STS, DS, JOB = OwnerKind.REPLICA_SET, OwnerKind.STATEFUL_SET, OwnerKind.DAEMON_SET, OwnerKind.JOB
OURS = 'pods "a-" is forbidden: admission webhook "deny.ledgergate.dev" denied the request: ledger app is at x'
AWAY = 'Internal error occurred: failed calling webhook "verdict.ledgergate.dev": connection refused'
QUOTA = "exceeded quota: compute"


def owner(spec: dict[str, Any], status: dict[str, Any] | None = None, **metadata: Any) -> Owner:
    return msgspec.convert({"metadata": metadata, "spec": spec, "status": status or {}}, Owner)


def failure(message: str, status: str = "True") -> list[dict[str, str]]:
    return [{"type": "ReplicaFailure", "status": status, "reason": "FailedCreate", "message": message}]


@pytest.mark.parametrize(
    ("kind", "found", "expected"),
    [
        (RS, owner({"replicas": 3}, {"replicas": 2}), True),
        (RS, owner({"replicas": 3}, {"replicas": 3}), False),
        (RS, owner({}), True),  # the default is one
        (RS, owner({"replicas": 0}), False),
        (RS, owner({"replicas": 3}, deletionTimestamp="2026-01-01T00:00:00Z"), False),
        (STS, owner({"replicas": 2}, {"replicas": 1}), True),
        (DS, owner({}, {"currentNumberScheduled": 1, "desiredNumberScheduled": 2}), True),
        (DS, owner({}, {"currentNumberScheduled": 2, "desiredNumberScheduled": 2}), False),
        (JOB, owner({"parallelism": 2, "completions": 5}, {"active": 1, "succeeded": 3}), True),
        (JOB, owner({"parallelism": 2, "completions": 5}, {"active": 1, "succeeded": 4}), False),
        (JOB, owner({}, {"active": 0}), True),
        (JOB, owner({"suspend": True}), False),
        (JOB, owner({}, {"conditions": [{"type": "Complete", "status": "True"}]}), False),
        (JOB, owner({}, {"conditions": [{"type": "Failed", "status": "True"}]}), False),
    ],
)
def test_an_owner_lacks_pods_by_its_status(kind: OwnerKind, found: Owner, expected: bool) -> None:
    """It has fewer pods than it should have; one that is being deleted, has finished or is suspended lacks none."""
    assert lacks_pods(kind, found) is expected


@pytest.mark.parametrize(
    ("kind", "found", "expected"),
    [
        (RS, owner({"replicas": 3}, {"conditions": failure(OURS)}), True),
        (RS, owner({"replicas": 3}, {"conditions": failure(AWAY)}), True),
        (RS, owner({"replicas": 3}, {"conditions": failure(QUOTA)}), False),
        (RS, owner({"replicas": 3}, {"conditions": failure(OURS, "False")}), False),
        (RS, owner({"replicas": 3}), False),
        (RS, owner({"replicas": 0}, {"conditions": failure(OURS)}), False),
        (STS, owner({"replicas": 3}, {"replicas": 1, "readyReplicas": 0}), False),
        (STS, owner({"replicas": 3}, {"replicas": 1, "readyReplicas": 1}), True),
        (STS, owner({"replicas": 3, "podManagementPolicy": "Parallel"}, {"replicas": 1}), True),
        (DS, owner({}, {"desiredNumberScheduled": 1}), True),
        (JOB, owner({}, {"failed": 1}), False),
        (JOB, owner({}), True),
    ],
)
def test_an_owner_waits_for_a_retry(kind: OwnerKind, found: Owner, expected: bool) -> None:
    """Nothing else explains the missing pods: no quota, no pod that is not ready yet. Only then it is woken again."""
    assert waits_for_retry(kind, found) is expected


def test_a_refusal_names_our_webhook() -> None:
    """Our verdict and a webhook that does not answer both name our webhook; a quota does not."""
    assert [was_refused_by_ledgergate(owner({}, {"conditions": failure(text)})) for text in (OURS, AWAY, QUOTA)] == [
        True,
        True,
        False,
    ]
