"""Fixtures of this folder: one control plane with the real Argo CD, and the chart in a git repository."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.guard import CHART, Guard
from testbed.cluster.helm import Helm, temporary_home
from testbed.controlplane import ControlPlane
from testbed.gitops.argo_cd import ArgoCD
from testbed.gitops.repository import Repository
from tests.cluster.fixtures import argo_cd_program

__all__ = ["argo_cd_program"]

# Neither is the default, so that a manifest that depends on the default fails.
RELEASE, NAMESPACE = "platform", "guard"


@pytest.fixture(scope="package")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """A separate control plane, as a cluster can have the chart's cluster-scoped objects only once."""
    with ControlPlane(programs) as started:
        yield started


@pytest.fixture(scope="package")
def argo_cd(argo_cd_program: Path, helm_program: Path, plane: ControlPlane) -> Iterator[ArgoCD]:
    """Argo CD on this folder's plane."""
    with ArgoCD(argo_cd_program, helm_program, plane) as started:
        yield started


@pytest.fixture
def guard(helm_program: Path, plane: ControlPlane) -> Iterator[Guard]:
    """The processes of what a GitOps tool installs; nothing is installed yet."""
    with temporary_home() as home, Guard(Helm(helm_program, plane, Path(home)), plane, RELEASE, NAMESPACE) as guard:
        yield guard


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A git repository with the chart."""
    created = Repository(tmp_path / "repository")
    created.commit(Path(CHART))
    return created
