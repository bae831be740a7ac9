"""Gets the peers: from the cache, else from their registries, each by what the files beside this one pin.

Exception
└── InstallError    a registry's client is missing or failed; the message says which and what it said
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers import tools
from bench.peers.tools import Tool
from tests.cluster.controlplane.cache import cache_directory, once
from tests.cluster.controlplane.pins import read_pins
from tests.cluster.controlplane.toolchain import ToolchainError, find_go

PINS = Path(__file__).parent
Progress = Callable[[str], None]

# What each program is built with: PostgreSQL's driver and no other. That is less to build, and less to load at a start.
_TAGS = {
    "goose": "no_clickhouse,no_duckdb,no_libsql,no_mssql,no_mysql,no_spanner,no_sqlite3,no_vertica,no_ydb",
    "migrate": "postgres",
}


class InstallError(Exception):
    """A registry's client is missing or failed."""


@dataclass(frozen=True, slots=True)
class Found:
    """Which peers there are.

    Attributes:
        tools: Those that can be run.
        absent: The others, by name, each with the reason.
    """

    tools: Sequence[Tool]
    absent: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """Where peers come from.

    Attributes:
        peers: Their names.
        get: Gives those that work on this machine, from the cache of this directory or installed into it.
    """

    peers: Sequence[str]
    get: Callable[[Path, Progress], Sequence[Tool]]


def find(
    *, progress: Progress, environment: Mapping[str, str] = os.environ, sources: Sequence[Source] | None = None
) -> Found:
    """Give every peer that is in the cache or can be installed into it.

    Args:
        progress: Told in a line what is being installed.
        environment: Where the cache's place is read from.
        sources: Where to look; everywhere unless given.
    """
    cache = cache_directory(environment) / "peers"
    found: list[Tool] = []
    absent: dict[str, str] = {}
    for source in SOURCES if sources is None else sources:
        try:
            got = source.get(cache, progress)
        except InstallError as reason:
            absent |= dict.fromkeys(source.peers, str(reason))
        else:
            there = {tool.name for tool in got}
            absent |= {name: "there is none for this machine" for name in source.peers if name not in there}
            found += got
    return Found(found, absent)


def _npm(cache: Path, progress: Progress) -> list[Tool]:
    pins = [PINS / name for name in ("package.json", "package-lock.json")]
    _need("node", "npm")

    def make(target: Path) -> None:
        progress("installing knex, node-pg-migrate and dbmate with npm")
        target.mkdir()
        for pin in pins:
            shutil.copy(pin, target)
        _run(["npm", "ci", "--ignore-scripts", "--no-fund", "--no-audit"], target)

    home = cache / f"npm-{_digest(pins)}"
    once(home, make, progress=progress)
    packages = json.loads(pins[1].read_text())["packages"]
    return tools.npm(
        home / "node_modules",
        {name.removeprefix("node_modules/"): p["version"] for name, p in packages.items() if name},
    )


def _python(cache: Path, progress: Progress) -> list[Tool]:
    pin = PINS / "requirements.txt"
    version = ".".join(map(str, sys.version_info[:2]))

    def make(target: Path) -> None:
        progress("installing alembic with pip")
        # Without scripts, whose first line would name the directory before it has its final name.
        _run([sys.executable, "-m", "venv", "--without-pip", target], PINS)
        pip: Sequence[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            target / "bin" / "python",
            "--quiet",
            "--disable-pip-version-check",
        ]
        _run([*pip, "install", "--require-hashes", "--requirement", pin], PINS)

    home = cache / f"python{version}-{_digest([pin])}"
    once(home, make, progress=progress)
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", pin.read_text(), re.MULTILINE))
    return tools.python(home / "bin" / "python", pinned)


def _go(cache: Path, progress: Progress) -> list[Tool]:
    pins = [PINS / name for name in ("go.mod", "go.sum")]
    programs = read_pins(pins[0].read_text())

    def make(target: Path) -> None:
        try:
            go = find_go(programs.go, cache.parent, progress=progress)
        except ToolchainError as error:
            raise InstallError(str(error)) from error
        target.mkdir()
        for name, program in programs.programs.items():
            progress(f"building {name} with go, which takes up to 3 minutes, once")
            flags = ["-trimpath", f"-ldflags={program.linker_flags}", f"-tags={_TAGS[name]}", f"-o={target / name}"]
            _run([go, "build", *flags, program.package], PINS, CGO_ENABLED="0", GOFLAGS="-mod=readonly", GOWORK="off")

    home = cache / f"go-{_digest(pins)}"
    once(home, make, progress=progress)
    return tools.go(home, {name: program.version for name, program in programs.programs.items()})


def _need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise InstallError(f"expected {' and '.join(missing)} on PATH; install Node.js to compare with it")


def _run(command: Sequence[str | Path], directory: Path, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, **environment}, check=False, capture_output=True, text=True
    )
    if done.returncode:
        name = " ".join([Path(command[0]).name, *map(str, command[1:3])])
        raise InstallError(f"{name} … failed: {' / '.join(done.stderr.strip().splitlines()[-3:]) or 'no word'}")


def _digest(pins: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(pin.read_bytes() for pin in pins)).hexdigest()[:12]


SOURCES = (
    Source(("knex", "node-pg-migrate", "dbmate"), _npm),
    Source(("goose", "golang-migrate"), _go),
    Source(("alembic",), _python),
)
