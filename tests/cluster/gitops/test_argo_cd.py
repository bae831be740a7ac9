"""The real Argo CD installs ledgergate, upgrades it and removes it as docs/install.md says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster.application import Application
from testbed.cluster.guard import Guard
from testbed.gitops.argo_cd import ArgoCD
from testbed.gitops.repository import Repository
from testbed.waiting import until
from tests.cluster.held_pods import assert_in_service, hold_a_bad_pod, release

pytestmark = [pytest.mark.gitops, pytest.mark.timeout(1200)]

NAME = "ledgergate"
VALIDATING = "validatingwebhookconfiguration/ledgergate"


@pytest.fixture
def argo(argo_cd: ArgoCD, guard: Guard) -> Iterator[ArgoCD]:
    """Argo CD without an Application, and no Event of an earlier test; what a test leaves behind is removed."""
    guard.plane.kubectl("delete", "events", "--all", "-n", guard.namespace)
    yield argo_cd
    if argo_cd.application(NAME):
        argo_cd.delete(NAME)


def values(namespace: str, **changed: Any) -> dict[str, Any]:
    """Return the chart's values: one replica of each, which may read the Secret of a namespace."""
    small = {"webhook": {"replicas": 1}, "controller": {"replicas": 1}, "images": {"registries": ["registry.invalid"]}}
    return {**small, "databases": [{"namespace": namespace, "secrets": ["pg"]}], **changed}


def install(argo: ArgoCD, guard: Guard, repository: Repository, wanted: dict[str, Any]) -> None:
    """Have Argo CD install the chart, and wait until it reports that it is synced and healthy."""
    argo.apply(NAME, repository.url, guard.release, guard.namespace, wanted)
    until("the Deployments", lambda: "webhook" in deployments(guard), timeout=180)
    guard.serve()
    argo.await_synced(NAME)


def deployments(guard: Guard) -> str:
    return guard.plane.kubectl("get", "deployments", "-n", guard.namespace, "-o", "name")


def jobs_that_ran(guard: Guard) -> list[str]:
    """Return the names of the Jobs that ever had a pod in ledgergate's namespace, by the Job controller's Events."""
    get = ("get", "events", "-n", guard.namespace, "--field-selector=involvedObject.kind=Job", "-o", "json")
    events = json.loads(guard.plane.kubectl(*get))["items"]
    return [each["involvedObject"]["name"] for each in events if each["reason"] == "SuccessfulCreate"]


def assert_nothing_is_left(guard: Guard) -> None:
    """Assert that of the chart only the CRD is there, which is kept."""
    kinds = "deployments,services,serviceaccounts,roles,rolebindings,jobs,resourcequotas,pdb,networkpolicies"
    flags = ("-l", "app.kubernetes.io/part-of=ledgergate", "-o", "name")
    assert guard.plane.kubectl("get", kinds, "-n", guard.namespace, *flags) == ""
    cluster = "clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations"
    policies = "validatingadmissionpolicies,validatingadmissionpolicybindings"
    found = guard.plane.kubectl("get", f"{cluster},{policies}", "-o", "name")
    assert [each for each in found.splitlines() if "ledgergate" in each] == []
    assert "ledgergates.ledgergate.dev" in guard.plane.kubectl("get", "crd", "-o", "name")


def upgrade(argo: ArgoCD, guard: Guard, repository: Repository, wanted: dict[str, Any]) -> None:
    """Change the chart's values and wait until Argo CD has put them into effect."""
    argo.apply(NAME, repository.url, guard.release, guard.namespace, wanted)
    argo.await_synced(NAME)
    guard.await_ready()


def start(
    argo: ArgoCD,
    guard: Guard,
    repository: Repository,
    namespace: str,
    database: str,
    migrations: Path,
    **changed: Any,
) -> Application:
    """Install, hold a bad pod, and upgrade; no hook ran, and pods are held and judged as before."""
    install(argo, guard, repository, values(namespace, **changed))
    application = hold_a_bad_pod(guard, namespace, database, migrations)
    two = {"controller": {"replicas": 2}}
    upgrade(argo, guard, repository, values(namespace, **{**changed, **two}))
    assert_in_service(guard, application)
    assert jobs_that_ran(guard) == []
    return application


def test_removed_by_the_hook(
    argo: ArgoCD, guard: Guard, repository: Repository, namespace: str, database: str, migrations: Path
) -> None:
    """With `uninstall.release: always`, deleting the Application frees every pod, and leaves nothing."""
    always = {"release": "always"}
    application = start(argo, guard, repository, namespace, database, migrations, uninstall=always)
    application.await_held("early", 1)
    argo.delete(NAME)
    application.await_running("early", 1)
    application.await_running("late", 1)
    assert jobs_that_ran(guard) == ["ledgergate-release"]
    assert_nothing_is_left(guard)


def test_removed_without_the_hook(
    argo: ArgoCD, guard: Guard, repository: Repository, namespace: str, database: str, migrations: Path
) -> None:
    """By default there is no hook: `ledgergate release --all --uninstall` after the deletion frees every pod."""
    application = start(argo, guard, repository, namespace, database, migrations)
    argo.delete(NAME)
    assert jobs_that_ran(guard) == []
    application.await_held("early", 1)
    release(guard)
    application.await_running("early", 1)
    application.await_running("late", 1)
    assert_nothing_is_left(guard)


def test_what_is_released_by_hand_is_restored(
    argo: ArgoCD, guard: Guard, repository: Repository, namespace: str, database: str, migrations: Path
) -> None:
    """While Argo CD restores what is missing (`selfHeal`), a release before the deletion does not last."""
    install(argo, guard, repository, values(namespace))
    application = hold_a_bad_pod(guard, namespace, database, migrations)
    release(guard)
    application.await_running("early", 1)
    until("the webhook's return", lambda: VALIDATING in find(guard, VALIDATING))
    argo.await_synced(NAME)
    application.deploy("late", "20260103000000_index", replicas=1)
    application.await_held("late", 1)
    argo.delete(NAME)
    application.await_held("late", 1)
    release(guard)
    application.await_running("late", 1)


def find(guard: Guard, what: str) -> str:
    found = guard.plane.kubectl("get", what, "--ignore-not-found", "-o", "name")
    return found.replace(".admissionregistration.k8s.io", "")
