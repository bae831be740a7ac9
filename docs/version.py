"""Write the version of pyproject.toml wherever else it stands: `make docs`. Only that one is edited by hand."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_NUMBER = r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.]+)?"
_IMAGE = rf"(?<=\bledgergate:){_NUMBER}"
PLACES = {
    "manifests/chart/Chart.yaml": rf"(?m)(?<=ersion: ){_NUMBER}$",
    "manifests/version/kustomization.yaml": rf"(?:(?<=/version: )|(?<=newTag: )){_NUMBER}",
    "manifests/helm-plugin/plugin.yaml": rf"(?m)(?<=^version: ){_NUMBER}",
    "manifests/examples/cliscale/.github/workflows/deploy.yaml": _IMAGE,
    "manifests/examples/cliscale/controller/Dockerfile": _IMAGE,
    "manifests/examples/cliscale/skaffold.yaml": _IMAGE,
    "Dockerfile": rf"{_IMAGE}|(?<=image\.version=\"){_NUMBER}",
    "README.md": _IMAGE,
    "docs/image-labels.md": _IMAGE,
    "docs/install.md": rf"{_IMAGE}|(?<=ref=v){_NUMBER}|(?<=newTag: ){_NUMBER}|(?<=`appVersion`, `){_NUMBER}",
    "docs/migrate.md": _IMAGE,
    "docs/quick-start.md": _IMAGE,
}
"""Where the version stands, and how it is recognized there."""


def version() -> str:
    """Return the version of pyproject.toml."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def renewed(place: str, number: str) -> str:
    """Return the text of one of the places with this version.

    Raises:
        ValueError: the version does not stand there.
    """
    text, count = re.subn(PLACES[place], number, (ROOT / place).read_text(encoding="utf-8"))
    if not count:
        raise ValueError(f"{place} has no version: expected {PLACES[place]}")
    return text


if __name__ == "__main__":
    for each in PLACES:
        (ROOT / each).write_text(renewed(each, version()), encoding="utf-8")
