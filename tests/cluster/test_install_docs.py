"""The commands of docs/install.md, run as they stand: by helm, by kustomize, and back to nothing."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.cluster.pod_processes import PodProcesses

ROOT = Path(__file__).parents[2]
# What is not here: a registry, a kind cluster, an image builder (tests/cluster/test_image.py has one).
ELSEWHERE = {"make", "docker", "kind"}


@pytest.fixture(scope="module")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """A control plane of this file's own, on which nothing of ours is."""
    with ControlPlane(programs) as started:
        yield started


def sections() -> dict[str, list[str]]:
    """The shell blocks of each section, in order."""
    found: dict[str, list[str]] = {}
    for part in (ROOT / "docs/install.md").read_text().split("\n## ")[1:]:
        title = part.partition("\n")[0]
        found[title] = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    return found


class Shell:
    """A user's shell, with kubectl, helm and ledgergate on its PATH."""

    def __init__(self, plane: ControlPlane, helm: Path, home: Path) -> None:
        here = [plane.programs, helm.parent, Path(sys.executable).parent]
        self._environment = {
            "PATH": os.pathsep.join([*map(str, here), os.defpath]),
            "HOME": str(home),
            "KUBECONFIG": str(plane.kubeconfig),
        }
        self._blocks = sections()

    def __call__(self, title: str, *numbers: int) -> str:
        """Run a section's blocks, or those of these numbers; returns what they print."""
        blocks = self._blocks[title]
        return "".join(self.run(blocks[number]) for number in numbers or range(len(blocks)))

    def run(self, text: str) -> str:
        """Run a block; every command of it must succeed."""
        assert text.split(maxsplit=1)[0] not in ELSEWHERE
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(
            command, env=self._environment, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, text + done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def shell(plane: ControlPlane, helm_program: Path, tmp_path: Path) -> Shell:
    return Shell(plane, helm_program, tmp_path)


def test_every_block_is_run() -> None:
    """What is not run here is only what needs a registry or kind: a new block must be added to a test below."""
    run = {"With helm": 1, "With kustomize": 1, "A first namespace": 5, "Upgrade, and back": 1, "Uninstall": 3}
    blocks = {
        title: [block for block in found if block.split()[0] not in ELSEWHERE] for title, found in sections().items()
    }
    assert {title: len(found) for title, found in blocks.items() if found} == run


def test_helm_from_nothing_to_nothing(plane: ControlPlane, shell: Shell) -> None:
    """Install, opt a namespace in both ways, upgrade, roll back, uninstall: each command does what the page says."""
    shell("With helm")
    with PodProcesses(plane, "ledgergate"):
        shell("A first namespace", 0, 1)
        assert "shop" in shell("A first namespace", 3)
        shell("A first namespace", 4)
        shell("Upgrade, and back")
        shell("Uninstall", 0)
    assert "shop" in plane.kubectl("get", "ledgergates", "-n", "shop"), "the CRD and its objects are kept"
    shell("Uninstall", 1)


def test_kustomize_from_nothing_to_nothing(plane: ControlPlane, shell: Shell) -> None:
    """The same by kubectl alone, and by the command that takes every gate off."""
    plane.kubectl("delete", "namespace", "shop", "ledgergate", "--ignore-not-found", "--timeout=60s", timeout=70)
    shell("With kustomize")
    shell("A first namespace", 0, 2, 3, 4)
    assert "no pod is held" in shell("Uninstall", 2)
    assert "ledgergate" not in plane.kubectl("get", "namespaces,clusterroles", "-o", "name")
