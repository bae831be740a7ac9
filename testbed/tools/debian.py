"""Programs from Debian's packages, unpacked into the cache: ActiveRecord, PgBouncer, Prometheus, a registry, wrk.

apt checks their signatures. The versions are the current ones of Debian.
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
"""Packages of ActiveRecord, the database library of Rails, in Debian 12."""

PROGRAMS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "docker-registry": ("usr/bin", ("docker-registry",)),
        "pgbouncer": ("usr/sbin", ("pgbouncer", "libc-ares2", "libevent-2.1-7")),
        "wrk": ("usr/bin", ("wrk", "libluajit-5.1-2", "libluajit-5.1-common")),
        "prometheus": ("usr/bin", ("prometheus",)),
        "promtool": ("usr/bin", ("prometheus",)),
    }
)
"""Directory and packages of each program; the first package names the directory in the cache."""


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
    """Return the path of a program, installed or unpacked into the cache, and the environment variables that it needs.

    Args:
        name: One of `PROGRAMS`.

    Raises:
        InstallError: It is neither installed nor among the machine's packages.
    """
    if installed := shutil.which(name) or shutil.which(name, path="/usr/sbin"):
        return installed, {}
    folder, packages = PROGRAMS[name]
    root = unpack(packages[0], packages, install.place(), print)
    return str(root / folder / name), {"LD_LIBRARY_PATH": str(root / _libraries())}


def faketime() -> Path:
    """Return libfaketime, of Debian's package: a process that loads it sees another wall clock.

    Raises:
        InstallError: It is not among the machine's packages.
    """
    root = unpack("libfaketime", ("libfaketime",), install.place(), print)
    return root / _libraries() / "faketime/libfaketimeMT.so.1"


def unpack(name: str, packages: Sequence[str], cache: Path, progress: Progress) -> Path:
    """Return the directory into which packages are unpacked.

    Raises:
        InstallError: This machine has no apt, or apt failed.
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
        except InstallError:  # the machine's package lists are missing or outdated
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
    """Return the variables with which Ruby finds its libraries outside their usual directories."""
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
