"""The base images: the documented ones if a registry has them, else the same made of Debian's and npm's packages.

`requirements.txt` and lock files pin what goes onto a base; a base itself is Debian's newest when it is first made, and
then stays in the cache.
"""

import hashlib
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from testbed.controlplane.cache import cache_directory, once
from testbed.tools import install
from tests.cluster.images.builder import Buildah, BuildahError

DOCUMENTED_PYTHON = "python:3.13-slim"
DOCUMENTED_NODE = "node:22-slim"
NODEJS = Path(__file__).with_name("nodejs")
SUITE, PACKAGES = "trixie", "python3,python3-venv,ca-certificates"
DEBIAN, DEBIAN_NODE = "localhost/ledgergate-debian", "localhost/ledgergate-debian-node"


class NoBaseError(Exception):
    """No base image can be pulled or made, and run, on this machine; the message says what was tried."""


def python_base(buildah: Buildah) -> str:
    """Return an image with Python.

    Raises:
        NoBaseError: there is none.
    """
    return _first(
        buildah, "python3 -m venv --help", lambda: _pulled(buildah, DOCUMENTED_PYTHON), lambda: _debian(buildah)
    )


def node_base(buildah: Buildah, python: str) -> str:
    """Return an image with Node.js and npm below /usr/local.

    Args:
        buildah: makes it.
        python: what `python_base` gave; Node.js is put onto it where it cannot be pulled.

    Raises:
        NoBaseError: there is none.
    """
    return _first(
        buildah, "npm --version", lambda: _pulled(buildah, DOCUMENTED_NODE), lambda: _with_node(buildah, python)
    )


def _first(buildah: Buildah, command: str, *sources: Callable[[], str]) -> str:
    """Return the first image that can be pulled or built and in which the command works."""
    refusals = []
    for source in sources:
        try:
            image = source()
            container = buildah("from", image)
            buildah.run(container, *command.split())
            buildah("rm", container)
        except (BuildahError, install.InstallError, OSError) as error:
            refusals.append(str(error))
        else:
            return image
    raise NoBaseError("; ".join(refusals))


def _pulled(buildah: Buildah, image: str) -> str:
    buildah("pull", image, timeout=120)
    return image


def _debian(buildah: Buildah) -> str:
    """Make a Debian with the Python of its own, by mmdebstrap."""

    def make() -> None:
        if shutil.which("mmdebstrap") is None:
            raise install.InstallError("expected mmdebstrap on PATH, to make a base image")
        archive = buildah.storage / "debian.tar"
        flags = ["--quiet", "--variant=minbase", f"--include={PACKAGES}"]
        install.run(["mmdebstrap", *flags, SUITE, archive], buildah.storage)
        container = buildah("from", "scratch")
        buildah("add", container, str(archive), "/")
        archive.unlink()
        buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
        buildah("commit", "--rm", container, DEBIAN)

    return _kept(buildah, DEBIAN, make, f"{SUITE} {PACKAGES}")


def _with_node(buildah: Buildah, python: str) -> str:
    """Put Node.js and npm of npm's registry where its own images have them."""

    def make() -> None:
        modules = install.npm(NODEJS, install.place(), print)
        (program,) = modules.glob("node-linux-*/bin/node")
        container = buildah("from", python)
        buildah("add", container, str(program), "/usr/local/bin/node")
        buildah("add", container, str(modules / "npm"), "/usr/local/lib/node_modules/npm")
        buildah.run(container, "ln", "-s", "../lib/node_modules/npm/bin/npm-cli.js", "/usr/local/bin/npm")
        buildah("commit", "--rm", container, DEBIAN_NODE)

    return _kept(buildah, DEBIAN_NODE, make, f"{python} {(NODEJS / 'package-lock.json').read_text()}")


def _kept(buildah: Buildah, image: str, make: Callable[[], None], of: str) -> str:
    """Take an image from the cache, where it is kept for the next run; `of` says all that it depends on."""
    digest = hashlib.sha256(f"{of} {platform.machine()}".encode()).hexdigest()[:12]
    archive = cache_directory(os.environ) / "images" / f"{image.rpartition('/')[2]}-{digest}.tar"

    def keep(partial: Path) -> None:
        make()
        buildah("push", image, f"docker-archive:{partial}:{image}:latest")

    once(archive, keep, progress=print)
    buildah("pull", f"docker-archive:{archive}")
    return image
