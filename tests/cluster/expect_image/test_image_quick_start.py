"""The quick start, by image, and the page of the annotation: their own commands, from top to bottom."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.application import NAMES, Application, write_migrations
from testbed.cluster.container import Image
from testbed.cluster.installation import Installation
from testbed.cluster.kubelet import Kubelet
from testbed.controlplane import ControlPlane
from testbed.registries.server import Registry
from tests.cluster.docker_shim import write_docker
from tests.pages import blocks, walk

NAMESPACE = "shop"
"""The namespace in the pages."""


@pytest.fixture
def reader(
    plane: ControlPlane, installed_with_registry: Installation, registry: Registry, database: str, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """The reader's shell: kubectl, ledgergate and docker on the path, and the addresses of database and registry."""
    installed_with_registry.ensure()
    write_docker(tmp_path / "programs", registry)
    path = (tmp_path / "programs", Path(sys.executable).parent, plane.programs)
    yield {
        "PATH": os.pathsep.join([*map(str, path), os.defpath]),
        "HOME": str(tmp_path),
        "KUBECONFIG": str(plane.kubeconfig),
        "DATABASE_URL": database,
        "REGISTRY": registry.authority,
    }
    plane.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=120)


def test_the_quick_start(plane: ControlPlane, reader: dict[str, str], tmp_path: Path) -> None:
    """Pods wait for what their images need, the Job migrates, pods run, twice: no annotation anywhere."""
    desk = tmp_path / "shop"
    (desk / "migrations").mkdir(parents=True)
    # The image's working directory, with the files that the pod mounts there.
    images = {"ledgergate:0.1.0": Image(desk, path=(Path(sys.executable).parent,))}
    with Kubelet(plane, NAMESPACE, images) as kubelet:
        printed = walk("quick-start.md", desk, reader)
        assert [run.code for run in kubelet.runs] == [0, 0]
        second = kubelet.runs[1].output
    assert re.search(r"applied \d{14}_create_orders in", printed)
    assert re.search(r"applied \d{14}_create_customers in", second)


def test_the_annotation_instead(plane: ControlPlane, reader: dict[str, str], database: str, tmp_path: Path) -> None:
    """Where images have no label, pods wait by their annotation; the next image brings its own."""
    write_migrations(tmp_path / "migrations", NAMES[:1])
    plane.create_namespace(NAMESPACE)
    shop = Application(plane, NAMESPACE)
    shop.grant(database)
    shop.label(admission="enabled")
    (gate,) = blocks("how-to/annotation.md", "yaml")
    plane.apply(gate)
    walk("how-to/annotation.md", tmp_path, reader)
