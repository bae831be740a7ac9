"""sqlx's command line, built by Cargo from its crate, whose lock file pins the dependencies."""

import shutil
from pathlib import Path

from testbed.controlplane.cache import once
from testbed.tools import install
from testbed.tools.install import InstallError, Progress

VERSION = "0.9.0"


def sqlx(cache: Path, progress: Progress) -> Path:
    """Return the program, which is built once; that takes a minute or two.

    Raises:
        InstallError: There is no Cargo, or it failed.
    """
    if shutil.which("cargo") is None:
        raise InstallError("expected cargo on PATH; install Rust to run sqlx")

    def make(target: Path) -> None:
        progress("building sqlx with cargo, which takes up to 3 minutes, once")
        # Only the driver for PostgreSQL, unoptimized: one minute of CPU time instead of ten.
        flags = ["--locked", "--debug", "--no-default-features", "--features", "postgres"]
        crate = ["sqlx-cli", "--version", f"={VERSION}"]
        command: list[str | Path] = ["cargo", "install", "--quiet", *crate, *flags, "--root", target]
        target.mkdir()
        install.run(command, target, CARGO_TARGET_DIR=str(target / "build"))
        shutil.rmtree(target / "build")

    home = cache / f"sqlx-{VERSION}"
    once(home, make, progress=progress)
    return home / "bin" / "sqlx"
