"""The version is edited in one place, pyproject.toml; `make docs` writes it elsewhere."""

import re
import subprocess
from pathlib import Path

import pytest

from docs.version import PLACES, ROOT, renewed, version

OTHERS = {
    "CHANGELOG.md",
    "bench/results.json",
    "manifests/examples/cliscale/cliscale-chart/Chart.yaml",
    "pyproject.toml",
}
"""History, measurements, and another chart's version."""


@pytest.mark.parametrize("place", PLACES)
def test_each_place_has_the_version(place: str) -> None:
    """Written anew it is the same; written with another version, nothing of the present one is left."""
    assert renewed(place, version()) == (ROOT / place).read_text()
    assert version() not in renewed(place, "9.8.7")


def test_every_place_is_known() -> None:
    """No other file that users read has the version beside ledgergate's name."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    pattern = re.compile(rf"(?:ledgergate:|ref=v|(?:app)?[vV]ersion: ){re.escape(version())}\b")
    found = {
        name
        for name in files
        if not name.startswith(("tests/", "testbed/"))
        if Path(name).suffix in {".md", ".yaml", ".json", ".toml", ".tpl", ""}
        if pattern.search((ROOT / name).read_text(errors="replace"))
    }
    assert found - OTHERS <= PLACES.keys()
