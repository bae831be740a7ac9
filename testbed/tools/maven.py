"""The tools of the JVM: jars from Maven, each checked against its digest in `java/jars.sha256`."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed.controlplane.cache import once
from testbed.tools import install
from testbed.tools.driver import Driver, driven
from testbed.tools.install import InstallError, Progress

JAVA = install.PINS / "java"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
# Most of the tests' time is the start of the JVM.
_QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")


@contextmanager
def jvm(name: str, project: Path, url: str, **environment: str) -> Iterator[Driver]:
    """Run Flyway or Liquibase in a project directory."""
    try:
        jars = get(install.place(), print)
        classes = _compile(jars, install.place(), print)
    except InstallError as reason:
        pytest.skip(str(reason))
    command = ["java", *_QUICK, "-cp", f"{classes}{os.pathsep}{jars}/*", "Serve", name]
    with driven(command, project, {"DATABASE_URL": url, **environment}) as driver:
        yield driver


def get(cache: Path, progress: Progress) -> Path:
    """Return the directory of the jars that `java/pom.xml` pins.

    Raises:
        InstallError: There is no JDK or no Maven, or Maven failed.
        ValueError: A jar has another digest than the pinned one.
    """
    pins = [JAVA / "pom.xml", JAVA / "jars.sha256"]
    missing = [program for program in ("java", "javac", "mvn") if shutil.which(program) is None]
    if missing:
        raise InstallError(
            f"expected {', '.join(missing)} on PATH; install a JDK and Maven to run the tools of the JVM"
        )

    def make(target: Path) -> None:
        progress("installing migration tools with Maven")
        install.run(["mvn", "-q", "-B", "-f", pins[0], _COPY, f"-DoutputDirectory={target}"], JAVA)
        _check(target, pins[1].read_text())

    home = cache / f"jars-{install.digest(pins)}"
    once(home, make, progress=progress)
    return home


def _compile(jars: Path, cache: Path, progress: Progress) -> Path:
    """Return the directory of the compiled driver, so that a start, which would take longer, need not compile it.

    Raises:
        InstallError: The compiler failed.
    """
    source = JAVA / "Serve.java"
    home = cache / f"driver-{install.digest([source, JAVA / 'jars.sha256'])}"
    once(home, lambda target: install.run(["javac", "-cp", f"{jars}/*", "-d", target, source], JAVA), progress=progress)
    return home


def _check(directory: Path, pinned: str) -> None:
    expected = {name: digest for digest, name in map(str.split, pinned.splitlines())}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}
    if strange := sorted(name for name, digest in {*expected.items(), *found.items()} if found.get(name) != digest):
        raise ValueError(f"expected the jars of jars.sha256, got others: {', '.join(strange)}")
