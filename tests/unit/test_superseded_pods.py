"""Which held pods of a StatefulSet are in the way of its newer revision."""

import msgspec
import pytest

from webhook.api.objects import Pod
from webhook.api.owners import Owner, is_superseded
from webhook.controller.superseded_pods import MAX_DELETIONS, DeletionLimit


def statefulset(newest: str = "db-2", **spec: object) -> Owner:
    found = {"metadata": {"name": "db", "uid": "s"}, "spec": spec, "status": {"updateRevision": newest}}
    return msgspec.convert(found, Owner)


def pod(revision: str = "db-1", uid: str = "s", name: str = "db-1") -> Pod:
    reference = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": uid, "controller": True}
    labels = {"controller-revision-hash": revision} if revision else {}
    return msgspec.convert({"metadata": {"name": name, "labels": labels, "ownerReferences": [reference]}}, Pod)


@pytest.mark.parametrize(
    ("held", "owner", "superseded"),
    [
        (pod(), statefulset(), True),
        (pod("db-2"), statefulset(), False),
        (pod(""), statefulset(), False),
        (pod(), statefulset(""), False),
        (pod(uid="earlier"), statefulset(), False),
        (pod(), statefulset(podManagementPolicy="Parallel"), False),
        (pod(), statefulset(updateStrategy={"rollingUpdate": {"partition": 2}}), False),
        (pod(), statefulset(updateStrategy={"rollingUpdate": {"partition": 1}}), True),
        (pod(), statefulset(updateStrategy={"type": "OnDelete", "rollingUpdate": None}), True),
        (Pod(), statefulset(), False),
    ],
)
def test_a_pod_of_an_older_revision_that_is_waited_for(held: Pod, owner: Owner, superseded: bool) -> None:
    """Only of this very StatefulSet, under OrderedReady, and not where the partition keeps the older revision."""
    assert is_superseded(owner, held) is superseded


def test_pods_that_come_back_unchanged_are_not_deleted_forever() -> None:
    """A pod is deleted a few times for each name and generation of its StatefulSet; then an Event asks for a person."""
    limit, owner = DeletionLimit(), statefulset()
    for _ in range(MAX_DELETIONS):
        assert limit.allows(owner, pod())
        limit.count(owner, pod())
    assert not limit.allows(owner, pod())
    assert limit.allows(owner, pod(name="db-0"))
    edited = msgspec.structs.replace(owner, metadata=msgspec.structs.replace(owner.metadata, generation=2))
    assert limit.allows(edited, pod())
