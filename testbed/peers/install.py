"""Gets the peers: from the cache, else from their registries, each by what the files beside this one pin."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.controlplane.cache import cache_directory
from testbed.controlplane.pins import read_pins
from testbed.peers import tools
from testbed.peers.tools import Tool
from testbed.tools import install
from testbed.tools.install import InstallError, Progress

PINS = Path(__file__).parent

# What each program is built with: PostgreSQL's driver and no other. That is less to build, and less to load at a start.
TAGS = {
    "goose": "no_clickhouse,no_duckdb,no_libsql,no_mssql,no_mysql,no_spanner,no_sqlite3,no_vertica,no_ydb",
    "migrate": "postgres",
}


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
    packages = json.loads((PINS / "package-lock.json").read_text())["packages"]
    return tools.npm(
        install.npm(PINS, cache, progress),
        {name.removeprefix("node_modules/"): p["version"] for name, p in packages.items() if name},
    )


def _python(cache: Path, progress: Progress) -> list[Tool]:
    pinned = re.findall(r"^([\w.-]+)==(\S+)", (PINS / "requirements.txt").read_text(), re.MULTILINE)
    return tools.python(install.python(PINS, cache, progress), dict(pinned))


def _go(cache: Path, progress: Progress) -> list[Tool]:
    programs = read_pins((PINS / "go.mod").read_text()).programs
    built = install.go(PINS, cache, progress, TAGS)
    return tools.go(built, {name: program.version for name, program in programs.items()})


SOURCES = (
    Source(("knex", "node-pg-migrate", "dbmate"), _npm),
    Source(("goose", "golang-migrate"), _go),
    Source(("alembic",), _python),
)
