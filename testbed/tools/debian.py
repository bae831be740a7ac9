"""Programs from Debian's packages, unpacked into the cache, not installed: ActiveRecord, PgBouncer, Prometheus.

apt checks their signatures; which versions they have is what Debian has at the time.
"""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from testbed.controlplane.cache import once
from testbed.tools import install
from testbed.tools.driver import Driver, driven
from testbed.tools.install import InstallError, Progress

RAILS = (
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
"""ActiveRecord, the database library of Rails, as Debian 12 has it."""

PROGRAMS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "pgbouncer": ("usr/sbin", ("pgbouncer", "libc-ares2", "libevent-2.1-7")),
        "prometheus": ("usr/bin", ("prometheus",)),
        "promtool": ("usr/bin", ("prometheus",)),
    }
)
"""The folder of each program, and the packages that bring it; the first names the place in the cache."""


@contextmanager
def rails(project: Path, url: str) -> Iterator[Driver]:
    """Run ActiveRecord in a project directory."""
    try:
        root = unpack("activerecord", RAILS, install.place(), print)
    except InstallError as reason:
        pytest.skip(str(reason))
    command = [str(root / "usr/bin/ruby3.1"), str(install.PINS / "ruby" / "serve.rb")]
    with driven(command, project, {"DATABASE_URL": url, **_paths(root)}) as driver:
        yield driver


def program(name: str) -> tuple[str, dict[str, str]]:
    """Return a program, the machine's own or one unpacked into the cache, and what its environment must have besides.

    Args:
        name: One of `PROGRAMS`.

    Raises:
        InstallError: This machine has it neither installed nor among its packages.
    """
    if installed := shutil.which(name) or shutil.which(name, path="/usr/sbin"):
        return installed, {}
    folder, packages = PROGRAMS[name]
    root = unpack(packages[0], packages, install.place(), print)
    return str(root / folder / name), {"LD_LIBRARY_PATH": str(root / _libraries())}


def unpack(name: str, packages: Sequence[str], cache: Path, progress: Progress) -> Path:
    """Return the directory into which packages are unpacked.

    Raises:
        InstallError: This is no Debian 12, or apt failed.
    """
    missing = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise InstallError(f"expected {' and '.join(missing)} on PATH; {name} is unpacked from Debian's packages")

    def make(target: Path) -> None:
        progress(f"getting {name} with apt")
        target.mkdir()
        archives = target / "archives"
        archives.mkdir()
        try:
            install.run(["apt-get", "-qq", "download", *packages], archives)
        except InstallError:  # a new machine has no lists of packages yet, or old ones
            install.run(["apt-get", "-qq", "update"], archives)
            install.run(["apt-get", "-qq", "download", *packages], archives)
        for archive in archives.iterdir():
            install.run(["dpkg", "-x", archive, target], target)
        shutil.rmtree(archives)

    home = cache / name
    once(home, make, progress=progress)
    return home


def _libraries() -> str:
    return f"usr/lib/{platform.machine()}-linux-gnu"


def _paths(root: Path) -> dict[str, str]:
    """Tell Ruby where its libraries are, since they are not where Debian's Ruby expects them."""
    native = _libraries()
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
