"""The alerts, judged by Prometheus' own promtool: they parse, fire when they should, and are explained."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.tools import debian
from testbed.tools.install import InstallError

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "manifests/chart/files/prometheus/alerts.yaml"
FIRING = Path(__file__).with_name("alerts") / "firing.yaml"
METRICS = ROOT / "docs/metrics.md"


def promtool(*arguments: str | Path, cwd: Path) -> str:
    """Run promtool; skipped where neither the machine nor its packages have it."""
    try:
        program, environment = debian.program("promtool")
    except InstallError as reason:
        pytest.skip(str(reason))
    done = subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def alerts() -> list[dict[str, Any]]:
    spec = yaml.safe_load(ALERTS.read_text())["spec"]
    return [rule for group in spec["groups"] for rule in group["rules"]]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The rule file that a Prometheus without the operator reads."""
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps(yaml.safe_load(ALERTS.read_text())["spec"]))
    return path


def test_prometheus_reads_them(rules: Path, alerts: list[dict[str, Any]]) -> None:
    """Every expression and every template is valid, and no alert is overlooked."""
    assert f"SUCCESS: {len(alerts)} rules found" in promtool("check", "rules", rules, cwd=rules.parent)


def test_each_fires_when_it_should(rules: Path) -> None:
    """Silent while all is well or trouble is young, firing when it lasts: promtool's own tests."""
    shutil.copy(FIRING, rules.parent)
    promtool("test", "rules", FIRING.name, cwd=rules.parent)


def test_each_is_tested(alerts: list[dict[str, Any]]) -> None:
    """The promtool tests have every alert."""
    tests = FIRING.read_text()
    assert [each["alert"] for each in alerts if each["alert"] not in tests] == []


def test_each_is_explained(alerts: list[dict[str, Any]]) -> None:
    """An alert says what is wrong in a line and what to do; docs/metrics.md has every one with its severity."""
    documented = dict(re.findall(r"^\| `(Ledgergate\w+)` \| (\w+) \|", METRICS.read_text(), re.MULTILINE))
    assert documented == {each["alert"]: each["labels"]["severity"] for each in alerts}
    for each in alerts:
        assert each["annotations"].keys() == {"summary", "description"}
        assert len(each["annotations"]["summary"]) < 120
