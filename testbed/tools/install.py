"""Third-party tools, installed once into the cache, as lock files or requirements with hashes pin them.

Exception
└── InstallError    a registry's client is missing or failed; the message has its output
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from testbed.controlplane.cache import cache_directory, once
from testbed.controlplane.pins import read_pins
from testbed.controlplane.toolchain import ToolchainError, find_go

PINS = Path(__file__).parent
"""Directory of the files that pin the tools of the tests."""

Progress = Callable[[str], None]


class InstallError(Exception):
    """A registry's client is missing or failed."""


def npm(pins: Path, cache: Path, progress: Progress) -> Path:
    """Install what `package-lock.json` pins, without running install scripts.

    Args:
        pins: The directory of `package.json` and its lock file.
        cache: Where to install.
        progress: Called with a line for each installation.

    Returns:
        The `node_modules` directory.

    Raises:
        InstallError: Node.js is missing, or npm failed.
    """
    files = [pins / name for name in ("package.json", "package-lock.json")]
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        raise InstallError(f"expected {' and '.join(missing)} on PATH; install Node.js to run the tools of npm")

    def make(target: Path) -> None:
        progress("installing migration tools with npm")
        target.mkdir()
        for file in files:
            shutil.copy(file, target)
        run(["npm", "ci", "--ignore-scripts", "--no-fund", "--no-audit", "--legacy-peer-deps"], target)

    home = cache / f"npm-{digest(files)}"
    once(home, make, progress=progress)
    return home / "node_modules"


def python(pins: Path, cache: Path, progress: Progress) -> Path:
    """Install what `requirements.txt` pins into a new virtual environment.

    Returns:
        The environment's interpreter.

    Raises:
        InstallError: pip failed.
    """
    pin = pins / "requirements.txt"
    version = ".".join(map(str, sys.version_info[:2]))

    def make(target: Path) -> None:
        progress("installing migration tools with pip")
        # Without pip: the first line of its scripts would have the directory's temporary name.
        run([sys.executable, "-m", "venv", "--without-pip", target], pins)
        pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", target / "bin" / "python", "--quiet"]
        flags: list[str | Path] = ["--disable-pip-version-check", "install", "--require-hashes", "--requirement", pin]
        run([*pip, *flags], pins)

    home = cache / f"python{version}-{digest([pin])}"
    once(home, make, progress=progress)
    return home / "bin" / "python"


def go(pins: Path, cache: Path, progress: Progress, tags: Mapping[str, str]) -> Path:
    """Build the programs that `go.mod` names as tools.

    Args:
        pins: The directory of `go.mod` and `go.sum`.
        cache: Where to install; a Go toolchain is installed next to it.
        progress: Called with a line for each program.
        tags: Build tags by program, which select the driver for PostgreSQL alone: a faster build and start.

    Returns:
        The directory of the programs.

    Raises:
        InstallError: There is no toolchain, or a build failed.
    """
    files = [pins / name for name in ("go.mod", "go.sum")]
    programs = read_pins(files[0].read_text())

    def make(target: Path) -> None:
        try:
            compiler = find_go(programs.go, cache.parent, progress=progress)
        except ToolchainError as error:
            raise InstallError(str(error)) from error
        target.mkdir()
        for name, program in programs.programs.items():
            progress(f"building {name} with go, which takes up to 3 minutes, once")
            flags = ["-trimpath", f"-ldflags={program.linker_flags}", f"-tags={tags.get(name, '')}"]
            command: list[str | Path] = [compiler, "build", *flags, f"-o={target / name}", program.package]
            run(command, pins, CGO_ENABLED="0", GOFLAGS="-mod=readonly", GOWORK="off")

    home = cache / f"go-{digest(files)}"
    once(home, make, progress=progress)
    return home


def place() -> Path:
    """Return the directory in which tests install tools."""
    return cache_directory(os.environ) / "tools"


def run(command: Sequence[str | Path], directory: Path, **environment: str) -> None:
    """Run a registry's client in a directory.

    Raises:
        InstallError: It failed; the message ends with its output.
    """
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, **environment}, check=False, capture_output=True, text=True
    )
    if done.returncode:
        name = " ".join([Path(command[0]).name, *map(str, command[1:3])])
        raise InstallError(f"{name} … failed: {' / '.join(done.stderr.strip().splitlines()[-3:]) or 'no output'}")


def digest(pins: Sequence[Path]) -> str:
    """Return the digest of pinning files, for the name of a cache directory."""
    return hashlib.sha256(b"\0".join(pin.read_bytes() for pin in pins)).hexdigest()[:12]
