"""Tools that are one program, run once for each act; what they say is applied is read from what they print."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testbed.controlplane.cache import cache_directory
from testbed.peers.install import PINS, TAGS
from testbed.tools import crates, install
from testbed.tools.driver import Answer
from testbed.tools.install import InstallError


@dataclass(frozen=True, slots=True)
class Manner:
    """How one program wants to be spoken to.

    Attributes:
        get: Installs it and gives its path; what benchmarks have built is not built again.
        up: The command that applies all.
        to: The command that applies all up to a version; None where there is none.
        down: The command that takes one back.
        status: The command that tells what is applied.
        applied: Finds the applied versions in what `status` prints.
        flags: Before each command; `{url}` stands for the database.
    """

    get: Callable[[], Path]
    up: Sequence[str]
    to: Sequence[str] | None
    down: Sequence[str]
    status: Sequence[str]
    applied: str
    flags: Sequence[str] = ()


def _go(name: str) -> Path:
    return install.go(PINS, cache_directory(os.environ) / "peers", print, TAGS) / name


def _dbmate() -> Path:
    program = install.npm(PINS, cache_directory(os.environ) / "peers", print) / "@dbmate/linux-x64/bin/dbmate"
    if not program.exists():
        raise InstallError("npm has no dbmate for this machine")
    return program


MANNERS = {
    "goose": Manner(
        get=lambda: _go("goose"),
        up=("up",),
        to=("up-to",),
        down=("down",),
        status=("status",),
        applied=r"\d{4} -- (\d+)_",
    ),
    "golang-migrate": Manner(
        get=lambda: _go("migrate"),
        up=("up",),
        to=("goto",),
        down=("down", "1"),
        status=("version",),
        applied=r"^(\d+)( \(dirty\))?$",
        flags=("-path", "migrations", "-database", "{url}"),
    ),
    "dbmate": Manner(
        get=_dbmate,
        up=("migrate",),
        to=None,
        down=("rollback",),
        status=("status",),
        applied=r"^\[X\] (\d+)_",
    ),
    "sqlx": Manner(
        get=lambda: crates.sqlx(install.place(), print),
        up=("migrate", "run"),
        to=("migrate", "run", "--target-version"),
        down=("migrate", "revert"),
        status=("migrate", "info"),
        applied=r"^(\d+)/installed",
    ),
}
"""How each of the programs that tests run wants it."""


class Program:
    """A program with a project directory, whose migrations are in `migrations/`."""

    def __init__(self, path: Path, manner: Manner, project: Path, url: str) -> None:
        self._path = path
        self._manner = manner
        self._project = project
        self._url = f"{url}?sslmode=disable"  # without which the drivers of Go insist on TLS

    def __call__(self, act: str, **arguments: Any) -> Answer:
        """Do as `testbed.tools.driver.Tool` says."""
        error = None
        match act:
            case "to" if arguments["count"] > 0:
                error = self._to(arguments["count"])
            case "all":
                error = self._run(*self._manner.up)
            case "down":
                error = self._run(*self._manner.down)
        done = self._execute(*self._manner.status)
        return Answer(error, [found[1] for found in re.finditer(self._manner.applied, _said(done), re.MULTILINE)])

    def _to(self, count: int) -> str | None:
        files = sorted((self._project / "migrations").iterdir())
        versions = sorted({path.name.partition("_")[0] for path in files})
        if self._manner.to is not None:
            return self._run(*self._manner.to, versions[count - 1])
        later = [path for path in files if path.name.partition("_")[0] > versions[count - 1]]
        hidden = [path.rename(self._project / path.name) for path in later]
        try:
            return self._run(*self._manner.up)
        finally:
            for path, place in zip(hidden, later, strict=True):
                path.rename(place)

    def _run(self, *arguments: str) -> str | None:
        """Run it, and give what it said if it failed."""
        done = self._execute(*arguments)
        return _said(done) if done.returncode else None

    def _execute(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "DATABASE_URL": self._url,
            "DBMATE_MIGRATIONS_DIR": "migrations",
            "DBMATE_NO_DUMP_SCHEMA": "true",
            "GOOSE_DBSTRING": self._url,
            "GOOSE_DRIVER": "postgres",
            "GOOSE_MIGRATION_DIR": "migrations",
        }
        return subprocess.run(
            [self._path, *(flag.format(url=self._url) for flag in self._manner.flags), *arguments],
            cwd=self._project,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@contextmanager
def program(name: str, project: Path, url: str) -> Iterator[Program]:
    """Give the tool of this name, with a project directory."""
    manner = MANNERS[name]
    try:
        path = manner.get()
    except InstallError as reason:
        pytest.skip(str(reason))
    yield Program(path, manner, project, url)


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr
