"""A StatefulSet's held pod that an undo has superseded, and that Kubernetes does not replace."""

from pathlib import Path

import msgspec
import pytest
import yaml

from testbed.cluster.application import FIRST, SECOND, Application, migrate, write_migrations
from testbed.waiting import until
from webhook.api.objects import Metadata
from webhook.kube.errors import Conflict
from webhook.kube.kubeconfig import connect


def apply_statefulset(application: Application, revision: str) -> None:
    metadata = {"labels": {"app": "db", "guarded": "true"}, "annotations": {"ledgergate.dev/revision": revision}}
    pod = {"containers": [{"name": "main", "image": "app"}], "terminationGracePeriodSeconds": 0}
    spec = {
        "replicas": 2,
        "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": metadata, "spec": pod},
    }
    meta = {"name": "db", "namespace": application.namespace}
    application.plane.apply(
        yaml.safe_dump({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": spec})
    )


def notes(application: Application, kind: str) -> list[str]:
    """Return the notes of the Events `Superseded` on objects of a kind."""
    events = application.objects("events.k8s.io/v1", "events")
    return [each["note"] for each in events if (each["reason"], each["regarding"]["kind"]) == ("Superseded", kind)]


def test_a_superseded_pod_is_reported_and_deleted_where_the_gate_allows_it(
    application: Application, database: str, tmp_path: Path
) -> None:
    """By default an Event has the command; with Delete and the right to it, the StatefulSet makes a new pod."""
    directory = write_migrations(tmp_path / "migrations", (FIRST,))
    migrate(directory, database)
    application.opt_in(database)
    until("the ledger to be read", lambda: application.status().get("head") == FIRST)
    apply_statefulset(application, FIRST)
    application.await_running("db", 2)
    apply_statefulset(application, SECOND)
    until("the newer pod to be held", lambda: application.held("db") == ["db-1"])
    assert notes(application, "StatefulSet") == []
    apply_statefulset(application, FIRST)
    command = f"kubectl delete pod db-1 -n {application.namespace}"
    until("the Event on the StatefulSet", lambda: any(command in note for note in notes(application, "StatefulSet")))
    until("the Event on the pod", lambda: any(command in note for note in notes(application, "Pod")))
    assert application.held("db") == ["db-1"]
    grant = ("role", "superseded", "--verb=delete", "--resource=pods", "-n", application.namespace)
    application.plane.kubectl("create", *grant)
    to = ("--role=superseded", "--serviceaccount=ledgergate:controller", "-n", application.namespace)
    application.plane.kubectl("create", "rolebinding", "superseded", *to)
    application.gate(supersededPods="Delete")
    application.await_running("db", 2)
    until("the Event of the deletion", lambda: any("it was deleted" in note for note in notes(application, "Pod")))


async def test_a_pod_that_has_changed_since_it_was_judged_is_not_deleted(
    application: Application, database: str
) -> None:
    """It may have been released meanwhile, or be another pod of the same name."""
    application.opt_in(database)
    apply_statefulset(application, FIRST)
    until("the first pod to be held", lambda: application.held("db") == ["db-0"])
    (found,) = application.pods("db")
    read = msgspec.convert(found["metadata"], Metadata)
    application.plane.kubectl("annotate", "pod", "db-0", "changed=true", "-n", application.namespace)
    async with await connect(application.plane.kubeconfig, "test") as cluster:
        for stale in (read, msgspec.structs.replace(read, uid="another", resource_version="")):
            with pytest.raises(Conflict):
                await cluster.delete_pod(stale)
    (now,) = application.pods("db")
    assert now["metadata"]["uid"] == read.uid
