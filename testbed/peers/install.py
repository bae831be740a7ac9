"""Install the peers from their registries into the cache, in the versions that the files beside this one pin."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.controlplane.cache import cache_directory
from testbed.controlplane.pins import read_pins
from testbed.peers import tools
from testbed.peers.tools import Peer
from testbed.tools import install
from testbed.tools.install import InstallError, Progress

PINS = Path(__file__).parent

# Build tags: PostgreSQL's driver and no other, which makes the build and the start of each program shorter.
TAGS = {
    "goose": "no_clickhouse,no_duckdb,no_libsql,no_mssql,no_mysql,no_spanner,no_sqlite3,no_vertica,no_ydb",
    "migrate": "postgres",
}


@dataclass(frozen=True, slots=True)
class InstalledPeers:
    """The peers on this machine.

    Attributes:
        tools: The peers that can run.
        absent: Names of the others, with the reason.
    """

    tools: Sequence[Peer]
    absent: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """A registry and the peers that come from it.

    Attributes:
        peers: Names of the peers.
        install: Returns the peers that work on this machine, after installing them into the cache directory.
    """

    peers: Sequence[str]
    install: Callable[[Path, Progress], Sequence[Peer]]


def find(
    *, progress: Progress, environment: Mapping[str, str] = os.environ, sources: Sequence[Source] | None = None
) -> InstalledPeers:
    """Return the peers that are in the cache or can be installed into it.

    Args:
        progress: Called with a line about each installation.
        environment: Environment variables, which decide where the cache is.
        sources: Sources to install from; all of them unless given.
    """
    cache = cache_directory(environment) / "peers"
    found: list[Peer] = []
    absent: dict[str, str] = {}
    for source in SOURCES if sources is None else sources:
        try:
            installed = source.install(cache, progress)
        except InstallError as reason:
            absent |= dict.fromkeys(source.peers, str(reason))
        else:
            names = {tool.name for tool in installed}
            absent |= {name: "not available for this machine" for name in source.peers if name not in names}
            found += installed
    return InstalledPeers(found, absent)


def _npm(cache: Path, progress: Progress) -> list[Peer]:
    packages = json.loads((PINS / "package-lock.json").read_text())["packages"]
    return tools.npm(
        install.npm(PINS, cache, progress),
        {name.removeprefix("node_modules/"): p["version"] for name, p in packages.items() if name},
    )


def _python(cache: Path, progress: Progress) -> list[Peer]:
    pinned = re.findall(r"^([\w.-]+)==(\S+)", (PINS / "requirements.txt").read_text(), re.MULTILINE)
    return tools.python(install.python(PINS, cache, progress), dict(pinned))


def _go(cache: Path, progress: Progress) -> list[Peer]:
    programs = read_pins((PINS / "go.mod").read_text()).programs
    built = install.go(PINS, cache, progress, TAGS)
    return tools.go(built, {name: program.version for name, program in programs.items()})


SOURCES = (
    Source(("knex", "node-pg-migrate", "dbmate"), _npm),
    Source(("goose", "golang-migrate"), _go),
    Source(("alembic",), _python),
)
