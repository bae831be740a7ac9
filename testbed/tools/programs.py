"""Tools that are one program, run once per request; their output has the applied migrations."""

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
class CommandLine:
    """The command line of one program.

    Attributes:
        get: Installs it and returns its path; a program that the benchmarks have built is not built again.
        up: The command that applies all.
        to: The command that applies all up to a version; None where there is none.
        down: The command that reverts one.
        status: The command that prints what is applied.
        applied: Regular expression of an applied version in the output of `status`.
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


COMMAND_LINES = {
    "goose": CommandLine(
        get=lambda: _go("goose"),
        up=("up",),
        to=("up-to",),
        down=("down",),
        status=("status",),
        applied=r"\d{4} -- (\d+)_",
    ),
    "golang-migrate": CommandLine(
        get=lambda: _go("migrate"),
        up=("up",),
        to=("goto",),
        down=("down", "1"),
        status=("version",),
        applied=r"^(\d+)( \(dirty\))?$",
        flags=("-path", "migrations", "-database", "{url}"),
    ),
    "dbmate": CommandLine(
        get=_dbmate,
        up=("migrate",),
        to=None,
        down=("rollback",),
        status=("status",),
        applied=r"^\[X\] (\d+)_",
    ),
    "sqlx": CommandLine(
        get=lambda: crates.sqlx(install.place(), print),
        up=("migrate", "run"),
        to=("migrate", "run", "--target-version"),
        down=("migrate", "revert"),
        status=("migrate", "info"),
        applied=r"^(\d+)/installed",
    ),
}
"""The command line of each program, by the name of its dialect."""


class ProgramTool:
    """A program with a project directory, whose migrations are in `migrations/`."""

    def __init__(self, path: Path, command_line: CommandLine, project: Path, url: str) -> None:
        self._path = path
        self._command_line = command_line
        self._project = project
        self._url = f"{url}?sslmode=disable"  # the drivers of Go require TLS by default

    def __call__(self, act: str, **arguments: Any) -> Answer:
        """Carry out a request; see `testbed.tools.driver.Tool`."""
        error = None
        match act:
            case "to" if arguments["count"] > 0:
                error = self._to(arguments["count"])
            case "all":
                error = self._run(*self._command_line.up)
            case "down":
                error = self._run(*self._command_line.down)
        done = self._execute(*self._command_line.status)
        applied = re.finditer(self._command_line.applied, _output(done), re.MULTILINE)
        return Answer(error, [found[1] for found in applied])

    def _to(self, count: int) -> str | None:
        files = sorted((self._project / "migrations").iterdir())
        versions = sorted({path.name.partition("_")[0] for path in files})
        if self._command_line.to is not None:
            return self._run(*self._command_line.to, versions[count - 1])
        later = [path for path in files if path.name.partition("_")[0] > versions[count - 1]]
        hidden = [path.rename(self._project / path.name) for path in later]
        try:
            return self._run(*self._command_line.up)
        finally:
            for path, place in zip(hidden, later, strict=True):
                path.rename(place)

    def _run(self, *arguments: str) -> str | None:
        """Run it; return its output if it failed, else None."""
        done = self._execute(*arguments)
        return _output(done) if done.returncode else None

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
            [self._path, *(flag.format(url=self._url) for flag in self._command_line.flags), *arguments],
            cwd=self._project,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@contextmanager
def program(name: str, project: Path, url: str) -> Iterator[ProgramTool]:
    """Yield the tool of this name, with a project directory."""
    command_line = COMMAND_LINES[name]
    try:
        path = command_line.get()
    except InstallError as reason:
        pytest.skip(str(reason))
    yield ProgramTool(path, command_line, project, url)


def _output(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr
