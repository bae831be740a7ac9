"""Fixtures of this folder: one control plane, and ledgergate installed on it by helm from the chart."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.application import Application
from testbed.cluster.cliscale import Cliscale, build_images
from testbed.cluster.guard import Guard
from testbed.cluster.helm import Helm, temporary_home
from testbed.cluster.kubelet import Kubelet
from testbed.controlplane import ControlPlane
from testbed.waiting import until

# Neither is the default, so that a manifest that depends on the default fails.
RELEASE, NAMESPACE = "platform", "guard"


@pytest.fixture(scope="package")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """A separate control plane, as a cluster can have the chart's cluster-scoped objects only once."""
    with ControlPlane(programs) as started:
        started.kubectl("create", "namespace", NAMESPACE)
        yield started


@pytest.fixture(scope="package")
def helm(helm_program: Path, plane: ControlPlane) -> Iterator[Helm]:
    """Helm on this folder's plane."""
    with temporary_home() as home:
        yield Helm(helm_program, plane, Path(home))


@pytest.fixture(scope="package")
def guarding(helm: Helm, plane: ControlPlane) -> Iterator[Guard]:
    """The release of ledgergate and its processes, for all tests of this folder."""
    with Guard(helm, plane, RELEASE, NAMESPACE) as guard:
        yield guard


@pytest.fixture
def guard(guarding: Guard) -> Guard:
    """The installed chart; a test may uninstall it."""
    guarding.ensure()
    return guarding


@pytest.fixture
def application(guard: Guard, namespace: str, database: str) -> Application:
    """Application whose namespace has opted in by the chart's value `databases`, the label and a LedgerGate."""
    guard.grant(namespace)
    found = Application(guard.plane, namespace)
    found.secret(database)
    found.gate()
    guard.plane.kubectl("label", "namespace", namespace, "ledgergate.dev/admission=enabled")
    until("the gate's first status", lambda: found.status().get("state"))
    return found


@pytest.fixture
def cliscale(guard: Guard, namespace: str, database: str, tmp_path: Path) -> Iterator[Cliscale]:
    """The mission's application, not yet installed, in a namespace with the label and the Secret."""
    images = build_images(tmp_path)
    with Kubelet(guard.plane, namespace, images) as kubelet:
        prepared = Cliscale(guard.plane, guard.helm, kubelet, images, namespace, database, guard.namespace)
        prepared.prepare()
        yield prepared
