"""The real console script, run on a directory of its own against a database of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from testbed import forks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from migrations.postgres.session import Session

PROGRAM = str(Path(sys.executable).with_name("ledgergate"))
_OF_THE_START = ("PYTHON", "LANG", "LC_", "TZ", "COVERAGE")
"""Variables that an interpreter reads as it starts."""
_FOREIGN = ("PG", "DB_", "LEDGERGATE_", "DATABASE_URL", "NODE_ENV")


class Ledgergate:
    """`ledgergate migrate` in a working directory whose `migrations/` the test fills."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.directory = home / "migrations"
        self.directory.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        self.environment = {**kept, "DATABASE_URL": url, "POD_NAME": "pod-1"}

    @property
    def shell(self) -> dict[str, str]:
        """The environment of a shell that finds `ledgergate` by its name."""
        return {**self.environment, "PATH": f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}"}

    def write(self, name: str, up: str, options: str = "", down: str = "") -> Path:
        """Write a migration; a name without digits in front gets the next number."""
        if not name[:14].isdigit():
            name = f"{20250101000000 + len(list(self.directory.iterdir()))}_{name}"
        path = self.directory / name
        if path.suffix == ".py":
            path.write_text(up)
        else:
            path = path.with_name(f"{name}.sql")
            path.write_text(f"-- migrate:up {options}\n{up}\n-- migrate:down\n{down}\n")
        return path

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; as a fork, unless a variable concerns the interpreter's start.

        A start costs more than most runs do.
        """
        if any(name.startswith(_OF_THE_START) for name in environment):
            process = self.start(*arguments, **environment)
            output, errors = process.communicate(timeout=120)
            return subprocess.CompletedProcess(arguments, process.returncode, output, errors)
        with tempfile.TemporaryDirectory() as written:
            output_file, errors_file = Path(written, "output"), Path(written, "errors")
            run = forks.shared().start(
                "migrate",
                *arguments,
                directory=self.home,
                environment={**self.environment, **environment},
                output=output_file,
                errors=errors_file,
            )
            code = run.wait()
            return subprocess.CompletedProcess(arguments, code, output_file.read_text(), errors_file.read_text())

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [PROGRAM, "migrate", *arguments],
            cwd=self.home,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def ledgergate(tmp_path: Path, database: str) -> Ledgergate:
    """The console script on an empty directory and an empty database."""
    return Ledgergate(tmp_path, database)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to the test's database."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    """A session of ledgergate with the test's database."""
    session = await connect(Address.from_url(database), timeout=10, application_name="reads")
    yield session
    await session.close()
