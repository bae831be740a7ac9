"""The GitHub Action of lint, as a workflow uses it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from testbed.tools import install

ROOT = Path(__file__).parents[2]
WORKFLOW = """
on: pull_request
jobs:
  lint:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: 0}
      - uses: ./
        with: {path: db/migrations, INPUT: main}
"""


@pytest.mark.examples
def test_actionlint_takes_a_workflow_that_uses_the_action(tmp_path: Path) -> None:
    """The action can be parsed, and an input that it does not have is an error."""
    try:
        program = install.go(Path(__file__).with_name("actionlint"), install.place(), print, {}) / "actionlint"
    except install.InstallError as reason:
        pytest.skip(str(reason))
    (tmp_path / ".git").mkdir()
    shutil.copy(ROOT / "action.yml", tmp_path)
    workflow = tmp_path / ".github/workflows/lint.yaml"
    workflow.parent.mkdir(parents=True)
    said = []
    for name in ("since", "sinse"):
        workflow.write_text(WORKFLOW.replace("INPUT", name))
        command = [str(program), "-no-color", "-shellcheck=", "-pyflakes=", str(workflow)]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120)
        said.append(done.stdout + done.stderr)
    assert said[0] == ""
    assert 'input "sinse" is not defined in action' in said[1]
