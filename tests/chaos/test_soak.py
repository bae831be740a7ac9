"""Everything fails at random while pods are created at a rate: a minute in `make test`, ten in `make soak`."""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from testbed.cluster.application import Application
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.postgres import Postgres
from testbed.tools import debian
from testbed.tools.install import InstallError
from testbed.waiting import until
from tests.chaos.guard_walk import walking
from tests.chaos.soak import Soak

log = logging.getLogger(__name__)

SECONDS = float(os.environ.get("LEDGERGATE_SOAK", "60"))
LONG = SECONDS > 120
RATE = 20.0 if LONG else 5.0
"""Pods a second."""
SEED = int(os.environ.get("LEDGERGATE_SOAK_SEED", "20260126"))
BACK = 5.0
"""Seconds that a pod with a good verdict may still be held once everything is back."""
ALLOWED = (24, 4, 96 * 2**20)
"""How many more file descriptors (connections that are kept, and pipes to workers), threads and bytes of memory a
process may have than at its start."""
SESSIONS = "select count(*) from pg_stat_activity where application_name like 'ledgergate %'"
RESTS = 0.4
"""The share of steps after which a change is given time to be known everywhere."""
PARTS = ("webhook", "controller")

WEIGHTS: dict[str, int] = {
    "migrate": 18,
    "edit_gate": 16,
    "delete_gate": 3,
    "edit_secret": 9,
    "break_something": 6,
    "mend": 10,
    "kill_worker": 3,
    "restart_apiserver": 1,
    "compact": 2,
    "move_clock": 4,
}
FAULTS = ("compact", "move_clock", "kill_worker", "break_something", "restart_apiserver")


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The file of each process's clock; empty where libfaketime cannot be had, and no clock is moved."""
    try:
        debian.faketime()
    except InstallError as reason:
        log.warning("no clock is moved: %s", reason)
        return {}
    directory = tmp_path_factory.mktemp("clocks")
    for name in PARTS:
        (directory / name).write_text("+0")
    return {name: directory / name for name in PARTS}


@pytest.fixture(scope="module")
def guard(clocks: Mapping[str, Path], installed: Installation) -> Iterator[Installation]:
    """The installation, with processes whose clocks can be moved."""
    for name, file in clocks.items():
        installed.environments[name] = {
            "LD_PRELOAD": str(debian.faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    try:
        restart(installed)
        yield installed
    finally:
        installed.environments.clear()
        restart(installed)


def restart(installation: Installation) -> None:
    """Start all processes anew."""
    for name in PARTS:
        installation.kill(name)
    installation.ensure()


@pytest.fixture
def soak(
    guard: Installation,
    application: Application,
    clocks: Mapping[str, Path],
    database: str,
    own_postgres: Postgres,
    tmp_path: Path,
) -> Iterator[Soak]:
    with walking(Soak, application, guard, database, own_postgres, tmp_path) as found:
        found.clocks = clocks
        try:
            yield found
        finally:
            if found.frozen:
                found.mend()


def used(installation: Installation, name: str) -> tuple[int, int, int]:
    """Return a process's file descriptors, threads and bytes of memory."""
    process = psutil.Process(installation.pid(name))
    return process.num_fds(), process.num_threads(), process.memory_info().rss


def grown(installation: Installation, name: str, before: Mapping[str, tuple[int, int, int]]) -> bool:
    """Return whether a process uses more than at its start."""
    more = (now - then for now, then in zip(used(installation, name), before[name], strict=True))
    return any(found > allowed for found, allowed in zip(more, ALLOWED, strict=True))


def sessions(servers: Mapping[str, str]) -> int:
    """Return how many sessions ledgergate has on all servers."""

    async def count() -> int:
        total = 0
        for url in servers.values():
            connection = await asyncpg.connect(url)
            try:
                total += await connection.fetchval(SESSIONS)
            finally:
                await connection.close()
        return total

    return asyncio.run(count())


@pytest.mark.timeout(900 + SECONDS)
def test_nothing_that_fails_opens_or_stops_the_guard(soak: Soak, guard: Installation, plane: ControlPlane) -> None:
    """No pod runs on a bad verdict, none waits once all is back, and nothing is left open."""
    soak.chance.seed(SEED)
    servers = {urlsplit(url).netloc: url for name, url in soak.urls.items() if name in soak.world.levels}
    before = {name: used(guard, name) for name in PARTS}
    done: Counter[str] = Counter()
    pending = [each for each in FAULTS if soak.clocks or each != "move_clock"]
    end = time.monotonic() + SECONDS
    with soak.creating(RATE):
        soak.edit_gate()
        while time.monotonic() < end or pending:  # on a busy machine the time is too short for each fault
            (step,) = soak.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
            if pending and soak.chance.random() < 0.5:
                step = pending[0]
            if done_now := getattr(soak, step)():
                done[step] += 1
                pending = [each for each in pending if each != step]
                soak.trail.append(f"{len(soak.trail)} {time.time():.2f} {done_now}")
            soak.check()
            if soak.chance.random() < RESTS:
                soak.rest()
        soak.mend_all()
    back = time.monotonic()
    until("every pod with a good verdict to run", lambda: not soak.late(), pause=0.02)
    waited = time.monotonic() - back
    log.warning(
        "seed %d, %.0f s: %s; %d pods created (%.1f/s), %d cut off, %d ran; the last %.2f s after all was back;"
        " slowest request %.2f s",
        *(
            SEED,
            SECONDS,
            dict(done),
            len(soak.created),
            len(soak.created) / SECONDS,
            len(soak.doubtful),
            soak.released,
            waited,
        ),
        max(soak.creations),
    )
    assert waited < BACK + soak.lag  # by how much the machine is busy
    assert soak.released > len(soak.created) // 10
    for each in list(soak.world.gates):
        plane.kubectl("delete", "ledgergate", each, "-n", soak.application.namespace)
    plane.kubectl("delete", "pods", "--all", "-n", soak.application.namespace, "--wait=false")
    until("no session of ledgergate", lambda: not sessions(servers))
    for name in PARTS:
        until(f"the {name} to use what it used at its start", lambda: not grown(guard, name, before))  # noqa: B023
        log.warning("%s: %s before, %s after", name, before[name], used(guard, name))
