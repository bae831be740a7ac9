"""`ledgergate release` when no process of ledgergate runs, as docs/failure-modes.md describes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.application import FIRST, SECOND, Application, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from tests.cluster.test_commands import ledgergate


@pytest.fixture
def abandoned(programs: Path, database: str, tmp_path: Path) -> Iterator[ControlPlane]:
    """A cluster with held pods in two namespaces, in which webhook and controller are gone."""
    with ControlPlane(programs) as plane, Installation(plane) as installation:
        migrate(write_migrations(tmp_path / "migrations"), database, "--to", FIRST)
        for namespace in ("left", "kept"):
            plane.create_namespace(namespace)
            application = Application(plane, namespace)
            application.opt_in(database)
            application.deploy("gateway", SECOND)
            application.await_held("gateway")
        installation.kill("webhook")
        installation.kill("controller")
        yield plane


def test_pods_are_released_although_nothing_of_ledgergate_runs(abandoned: ControlPlane) -> None:
    """A namespace that opts out is released alone; where the webhook configurations are left, by --uninstall."""
    left, kept = Application(abandoned, "left"), Application(abandoned, "kept")
    abandoned.kubectl("label", "namespace", "left", "ledgergate.dev/admission-")
    alone = ledgergate(abandoned.kubeconfig, "release", "--all", "-n", "left")
    assert (alone.returncode, alone.stdout) == (0, "released 3 pods\n"), alone.stderr
    left.await_running("gateway")
    every = ledgergate(abandoned.kubeconfig, "release", "--all")
    assert every.returncode == 1
    assert "failed calling webhook" in every.stderr
    kept.await_held("gateway")
    done = ledgergate(abandoned.kubeconfig, "release", "--all", "--uninstall")
    assert done.returncode == 0, done.stderr
    kept.await_running("gateway")
