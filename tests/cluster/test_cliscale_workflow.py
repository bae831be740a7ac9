"""The example's GitHub workflow, by the checker that its users have, and what Skaffold's file asks of this machine.

The workflow's steps that build are run by images/test_cliscale_image.py, the one that deploys by test_cliscale_docs.py.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from testbed.cluster.cliscale import EXAMPLE, LEDGERGATE
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.tools import install

WORKFLOW = EXAMPLE / ".github/workflows/deploy.yaml"


@pytest.fixture(scope="module")
def actionlint() -> Path:
    """The checker of GitHub workflows, built once into the cache, which takes seconds."""
    try:
        return install.go(Path(__file__).with_name("actionlint"), install.place(), print, {}) / "actionlint"
    except install.InstallError as reason:
        pytest.skip(str(reason))


def check(actionlint: Path, workflow: Path) -> str:
    """Return the errors of a workflow; its shell scripts are not linted, as other tests run them."""
    command: list[str | Path] = [actionlint, "-no-color", "-shellcheck=", "-pyflakes=", workflow]
    return subprocess.run(command, cwd=EXAMPLE, check=False, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.examples
def test_the_workflow_is_valid(actionlint: Path, tmp_path: Path) -> None:
    """Every key, expression and context is one that GitHub knows; a misspelt one is an error."""
    assert check(actionlint, WORKFLOW) == ""
    wrong = tmp_path / "deploy.yaml"
    wrong.write_text(WORKFLOW.read_text().replace("github.sha", "github.sah"))
    assert 'property "sah" is not defined' in check(actionlint, wrong)


def test_the_last_step_succeeds_without_a_deployment(
    plane: ControlPlane, installation: Installation, tmp_path: Path
) -> None:
    """It succeeds even if nothing was deployed, and so hides no earlier failure."""
    del installation
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["deploy"]["steps"]
    (step,) = (step for step in steps if step.get("name") == "Say what happened")
    path = os.pathsep.join([str(plane.programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {"PATH": path, "HOME": str(tmp_path), "KUBECONFIG": str(plane.kubeconfig)}
    command = ["bash", "-e", "-c", step["run"]]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert step["if"] == "always()"


def run_in_controller(command: str, revision: str = "") -> subprocess.CompletedProcess[str]:
    """Run a shell's command where the Dockerfile runs its own: beside the sources, with `ledgergate` on the path."""
    path = os.pathsep.join([str(LEDGERGATE.parent), os.environ["PATH"]])
    environment = {"PATH": path, "REVISION": revision}
    words = ["sh", "-c", command]
    directory = EXAMPLE / "controller"
    return subprocess.run(
        words, cwd=directory, env=environment, check=False, capture_output=True, text=True, timeout=120
    )


def test_the_build_takes_no_revision_but_that_of_its_files() -> None:
    """Without REVISION, or with that of other files, the Dockerfile's own check ends the build and names the fix."""
    dockerfile = (EXAMPLE / "controller/Dockerfile").read_text()
    step = r"^ARG REVISION\nRUN ((?:.*\\\n)*.*)\nLABEL dev\.ledgergate\.revision=\${REVISION}$"
    (check,) = re.findall(step, dockerfile, re.MULTILINE)
    needs = run_in_controller("ledgergate migrate revision --dialect knex --dir src/migrations").stdout.strip()
    assert needs
    good = run_in_controller(check, needs)
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    for given in ("", needs.partition("+")[0]):
        bad = run_in_controller(check, given)
        assert bad.returncode == 1
        assert f"docker build --build-arg REVISION='{needs}'" in bad.stderr


def test_skaffold_asks_for_the_revision() -> None:
    """Its template's command, run where Skaffold runs it, prints what the chart and the image's label expect."""
    skaffold = yaml.safe_load((EXAMPLE / "skaffold.yaml").read_text())
    (release,) = skaffold["deploy"]["helm"]["releases"]
    (artifact,) = skaffold["build"]["artifacts"]
    template = release["setValueTemplates"]["revision"]
    assert artifact["docker"]["buildArgs"]["REVISION"] == template
    command = re.fullmatch(r"\{\{cmd (.*)\}\}", template)
    assert command
    path = os.pathsep.join([str(LEDGERGATE.parent), os.environ["PATH"]])
    words = shlex.split(command[1])
    said = subprocess.run(words, cwd=EXAMPLE, env={"PATH": path}, check=True, capture_output=True, text=True).stdout
    newest = max((EXAMPLE / "controller/src/migrations").iterdir())
    assert said.startswith(f"{newest.stem}+")
