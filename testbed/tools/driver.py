"""Drivers of real migration tools: one process in the tool's language, which reads requests as JSON lines."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from testbed.tools import install
from testbed.tools.install import InstallError

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a request.

    Attributes:
        error: The tool's message; None when it succeeded.
        applied: The applied migrations that the tool lists afterwards, by the tool's names, oldest first.
    """

    error: str | None
    applied: Sequence[str]


class Tool(Protocol):
    """A migration tool with a project of its own."""

    def __call__(self, act: str, **arguments: Any) -> Answer:
        """Carry out a request and return its result.

        Args:
            act: `to` (`count` migrations are to be applied afterwards), `all`, `down` (one) or `status`.
        """
        ...


class Driver:
    """A tool as one process that answers requests."""

    def __init__(self, process: subprocess.Popen[str], project: Path) -> None:
        self.project = project
        self._process = process

    def __call__(self, act: str, **arguments: Any) -> Answer:
        """Carry out a request; see `Tool`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"act": act, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise RuntimeError(f"the tool ended: {(self.project / 'stderr').read_text()}")
        found = json.loads(line)
        return Answer(found["error"], [str(name) for name in found["applied"]])


@contextmanager
def javascript(name: str, project: Path, url: str) -> Iterator[Driver]:
    """Run the tool of `javascript/NAME.cjs` in a project directory, with the packages of npm."""
    try:
        modules = install.npm(install.PINS, install.place(), print)
    except InstallError as reason:
        pytest.skip(str(reason))
    for file in ("serve.cjs", f"{name}.cjs"):
        shutil.copy(HERE / "javascript" / file, project)
    (project / "package.json").write_text("{}\n")
    (project / "node_modules").symlink_to(modules)
    with driven(["node", f"{name}.cjs"], project, {"DATABASE_URL": url}) as driver:
        yield driver


@contextmanager
def python(name: str, project: Path, url: str) -> Iterator[Driver]:
    """Run the tool of `python/NAME.py` in a project directory, with the packages of PyPI."""
    try:
        interpreter = install.python(install.PINS, install.place(), print)
    except InstallError as reason:
        pytest.skip(str(reason))
    for file in ("serve.py", f"{name}.py"):
        shutil.copy(HERE / "python" / file, project / f"drive_{file}")
    command = [str(interpreter), "-W", "ignore", f"drive_{name}.py"]
    with driven(command, project, {"DATABASE_URL": url, "PYTHONDONTWRITEBYTECODE": "1"}) as driver:
        yield driver


@contextmanager
def driven(command: Sequence[str], project: Path, environment: Mapping[str, str]) -> Iterator[Driver]:
    """Run a command that answers requests, in a project directory."""
    with (
        (project / "stderr").open("w") as errors,
        subprocess.Popen(
            command,
            cwd=project,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Driver(process, project)
        finally:
            process.kill()
