"""What a held pod declares, and the labels by which a LedgerGate selects it, stay as they are while it is held."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster.application import FIRST, SECOND, THIRD, Application, migrate
from testbed.cluster.installation import Installation
from testbed.waiting import until

REVISION, MIGRATES = "ledgergate.dev/revision", "ledgergate.dev/migrates"
TENANT = "--as=tenant"


@pytest.fixture
def held(application: Application, database: str, migrations: Path) -> str:
    """A held pod of a Deployment with three, whose ledger is at the first migration; the user `tenant` may edit it."""
    migrate(migrations, database, "--to", FIRST)
    application.opt_in(database)
    binding = ("create", "rolebinding", "tenant", "--clusterrole=edit", "--user=tenant", "-n", application.namespace)
    application.plane.kubectl(*binding)
    application.deploy("gateway", THIRD)
    return application.await_held("gateway")[0]


class Changes:
    """Changes of one pod by kubectl, whose output is returned whatever happens."""

    def __init__(self, application: Application, pod: str) -> None:
        self._application = application
        self.pod = pod

    def __call__(self, verb: str, *arguments: str) -> str:
        """Run `kubectl VERB pod NAME` with further arguments."""
        return self._kubectl(verb, "pod", self.pod, *arguments)

    def merge(self, metadata: dict[str, Any], *flags: str, **others: Any) -> str:
        """Patch the pod by a merge patch."""
        return self("patch", "--type=merge", "-p", json.dumps({"metadata": metadata, **others}), *flags)

    def update(self, metadata: dict[str, Any]) -> str:
        """Replace the pod by itself with other labels or annotations, by HTTP PUT."""
        found = json.loads(self("get", "-o", "json"))
        for key, values in metadata.items():
            found["metadata"][key] = {**found["metadata"].get(key, {}), **values}
        return self._kubectl("replace", "-f", "-", stdin=json.dumps(found))

    def apply(self, metadata: dict[str, Any]) -> str:
        """Apply a part of the pod by server-side apply."""
        part = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.pod, **metadata}}
        flags = ("--server-side", "--force-conflicts", "--field-manager=tenant", "-f", "-")
        return self._kubectl("apply", *flags, stdin=json.dumps(part))

    def _kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        namespace = self._application.namespace
        return self._application.plane.kubectl(*arguments, "-n", namespace, stdin=stdin, check=False)


@pytest.fixture
def changes(application: Application, held: str) -> Iterator[Changes]:
    """Changes of the held pod; at the end it must be held still, as each of them was refused or does not matter."""
    yield Changes(application, held)
    assert application.held("gateway")
    assert application.running("gateway") == []


FROZEN: list[dict[str, dict[str, str | None]]] = [
    {"labels": {"guarded": "no"}},
    {"labels": {"guarded": None}},
    {"annotations": {REVISION: FIRST}},
    {"annotations": {REVISION: None}},
    {"annotations": {MIGRATES: "app"}},
    {"annotations": {"revision.ledgergate.dev/app": FIRST}},
    {"annotations": {"ledgergate.dev/phase": "expand"}},
    {"annotations": {"ledgergate.dev/of-a-later-version": "x"}},
]


def is_explained(said: str) -> bool:
    """Return whether an output is a refusal that says what is frozen and what to do."""
    return all(part in said for part in ("cannot change while the pod is held", "delete the pod", "ledgergate bypass"))


def test_what_decides_about_a_held_pod_is_frozen(changes: Changes) -> None:
    """For a user who may edit pods and for an administrator; also beside a change that is free, and in two steps."""
    for metadata in FROZEN:
        for user in ((), (TENANT,)):
            assert is_explained(said := changes.merge(metadata, *user)), (metadata, said)
    assert "patched" in changes.merge({"labels": {"team": "a"}, "annotations": {"note": "a"}}, TENANT)
    for metadata in FROZEN:
        both = {"labels": {"team": "b", **metadata.get("labels", {})}, "annotations": metadata.get("annotations", {})}
        assert is_explained(said := changes.merge(both)), (metadata, said)
    assert "guarded" in changes.merge({"labels": {"guarded": None}})
    assert "LedgerGate app selects it" in changes.merge({"labels": {"guarded": None}})
    assert REVISION in changes.merge({"annotations": {REVISION: FIRST}})


def test_every_way_to_write_a_pod_is_refused(changes: Changes) -> None:
    """Update, JSON patch, server-side apply, and the subresources whose writes change labels or annotations too."""
    for key, values in (("labels", {"guarded": "no"}), ("annotations", {REVISION: FIRST})):
        metadata: dict[str, Any] = {key: values}
        assert is_explained(said := changes.update(metadata)), said
        assert is_explained(said := changes.apply(metadata)), said
        assert is_explained(said := changes.merge(metadata, "--subresource=status")), said
        (name,) = values
        step = {"op": "remove", "path": f"/metadata/{key}/{name.replace('/', '~1')}"}
        assert is_explained(said := changes("patch", "--type=json", "-p", json.dumps([step]))), said
        for subresource in ("ephemeralcontainers", "resize"):
            changes.merge(metadata, f"--subresource={subresource}")
            found = json.loads(changes("get", "-o", "json"))["metadata"]
            assert found["labels"]["guarded"] == "true"
            assert found["annotations"][REVISION] == THIRD


def test_everything_else_is_free(changes: Changes) -> None:
    """Other labels and annotations, those of status and finalizers, and dry runs of whatever kind."""
    free: list[dict[str, Any]] = [
        {"labels": {"team": "a"}},
        {"labels": {"ledgergate.dev/gated": None}},
        {"annotations": {"note": "a", "notledgergate.dev/x": "a", "ledgergate.dev.example/x": "a"}},
        {"finalizers": ["example.com/wait"]},
        {"finalizers": None},
    ]
    for metadata in free:
        assert "patched" in (said := changes.merge(metadata, TENANT)), said
    condition = {"type": "Told", "status": "True"}
    assert "patched" in (said := changes.merge({}, "--subresource=status", status={"conditions": [condition]})), said
    for metadata in FROZEN:
        assert "patched" in (said := changes.merge(metadata, "--dry-run=server")), said


def test_a_gate_may_be_added_but_not_lost(application: Application, changes: Changes) -> None:
    """A label may change to another value of the selector, and may add a second gate, by which it is then frozen."""
    application.gate("second", selector={"matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]})
    until("the second gate to be known", lambda: application.status("second").get("state"))
    assert "patched" in changes.merge({"labels": {"tier": "a"}})
    assert "patched" in changes.merge({"labels": {"tier": "b"}})
    until("the second gate to hold it", lambda: application.status("second").get("heldPods") == 1)
    assert "LedgerGate second selects it" in changes.merge({"labels": {"tier": "c"}})
    assert "labels guarded, tier" in changes.merge({"labels": {"tier": None, "guarded": None}})


def test_an_outage_opens_nothing(installation: Installation, changes: Changes) -> None:
    """While no webhook answers, no label of a held pod changes; annotations are frozen by the API server alone."""
    installation.kill("webhook")
    for label in ("guarded", "team"):
        said = changes.merge({"labels": {label: "x"}})
        assert "failed calling webhook" in said
        assert "relabel.ledgergate.dev" in said
    assert is_explained(changes.merge({"annotations": {REVISION: FIRST}}))
    assert "patched" in changes.merge({"annotations": {"note": "a"}, "finalizers": None})
    assert "patched" in changes.merge({"labels": {"guarded": "no"}}, "--dry-run=server")


def test_a_pod_that_is_held_no_more_is_free(
    application: Application, database: str, migrations: Path, held: str
) -> None:
    """The controller releases it as ever; a terminating pod may change too, so that nothing keeps it."""
    changes, other = Changes(application, held), Changes(application, application.held("gateway")[1])
    assert "patched" in other.merge({"finalizers": ["example.com/wait"]})
    other("delete", "--wait=false")
    assert "patched" in (said := other.merge({"labels": {"guarded": None}, "annotations": {REVISION: None}})), said
    assert "patched" in (said := other.merge({"finalizers": None}, TENANT)), said
    migrate(migrations, database)
    application.await_running("gateway")
    for metadata in FROZEN:
        assert "patched" in (said := changes.merge(metadata, TENANT)), said


@pytest.mark.usefixtures("held")
def test_a_corrected_template_is_the_way(application: Application, database: str, migrations: Path) -> None:
    """What the message advises works: the Deployment's template gets what its ledger has, and its pods start."""
    migrate(migrations, database, "--to", SECOND)
    application.deploy("gateway", SECOND)
    application.await_running("gateway")
