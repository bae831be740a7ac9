"""ActiveRecord, the database library of Rails, from Debian's packages: unpacked into the cache, not installed.

apt checks their signatures; which versions they have is what Debian has at the time.
"""

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed.controlplane.cache import once
from testbed.tools import install
from testbed.tools.driver import Driver, driven
from testbed.tools.install import InstallError, Progress

PACKAGES = (
    "libpq5",
    "libruby3.1",
    "libyaml-0-2",
    "ruby-activemodel",
    "ruby-activerecord",
    "ruby-activesupport",
    "ruby-concurrent",
    "ruby-i18n",
    "ruby-pg",
    "ruby-rubygems",
    "ruby-tzinfo",
    "ruby-zeitwerk",
    "ruby3.1",
    "rubygems-integration",
)
"""What Debian 12 calls them."""


@contextmanager
def rails(project: Path, url: str) -> Iterator[Driver]:
    """Run ActiveRecord in a project directory."""
    try:
        root = get(install.place(), print)
    except InstallError as reason:
        pytest.skip(str(reason))
    command = [str(root / "usr/bin/ruby3.1"), str(install.PINS / "ruby" / "serve.rb")]
    with driven(command, project, {"DATABASE_URL": url, **_paths(root)}) as driver:
        yield driver


def get(cache: Path, progress: Progress) -> Path:
    """Give the directory into which the packages are unpacked.

    Raises:
        InstallError: This is no Debian 12, or apt failed.
    """
    missing = [program for program in ("apt-get", "dpkg") if shutil.which(program) is None]
    if missing:
        raise InstallError(f"expected {' and '.join(missing)} on PATH; ActiveRecord is unpacked from Debian's packages")

    def make(target: Path) -> None:
        progress("getting ActiveRecord with apt")
        target.mkdir()
        archives = target / "archives"
        archives.mkdir()
        try:
            install.run(["apt-get", "-qq", "download", *PACKAGES], archives)
        except InstallError:  # a new machine has no lists of packages yet, or old ones
            install.run(["apt-get", "-qq", "update"], archives)
            install.run(["apt-get", "-qq", "download", *PACKAGES], archives)
        for archive in archives.iterdir():
            install.run(["dpkg", "-x", archive, target], target)
        shutil.rmtree(archives)

    home = cache / "activerecord"
    once(home, make, progress=progress)
    return home


def _paths(root: Path) -> dict[str, str]:
    """Tell Ruby where its libraries are, since they are not where Debian's Ruby expects them."""
    native = f"usr/lib/{platform.machine()}-linux-gnu"
    gems = root / "usr/share/rubygems-integration"
    libraries = [
        *(root / "usr/lib/ruby" / name for name in ("vendor_ruby", "3.1.0")),
        *(root / native / "ruby" / name for name in ("vendor_ruby/3.1.0", "3.1.0")),
        *sorted((gems / "all/gems").glob("*/lib")),
        *sorted((gems / "all/gems").glob("*/lib/concurrent-ruby")),
    ]
    return {
        "LD_LIBRARY_PATH": str(root / native),
        "RUBYLIB": os.pathsep.join(map(str, libraries)),
        "GEM_PATH": os.pathsep.join(str(gems / name) for name in ("all", "3.1.0")),
    }
