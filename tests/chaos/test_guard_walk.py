"""A seeded random walk over everything that decides about a held pod, checked against a model."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.application import Application
from testbed.cluster.installation import Installation
from testbed.postgres import Postgres
from tests.chaos.guard_model import EVIL, GONE
from tests.chaos.guard_walk import GRACE, Walk, walking

log = logging.getLogger(__name__)

STEPS = 120
RESTS = 0.2
"""The share of changes that are given time to be known everywhere before the next step."""

WEIGHTS: dict[str, int] = {
    "create_pod": 34,
    "delete_pod": 4,
    "migrate": 18,
    "edit_gate": 16,
    "delete_gate": 3,
    "edit_secret": 9,
    "break_something": 2,
    "mend": 8,
}


@pytest.fixture
def walk(
    application: Application, installation: Installation, database: str, own_postgres: Postgres, tmp_path: Path
) -> Iterator[Walk]:
    with walking(Walk, application, installation, database, own_postgres, tmp_path) as found:
        yield found


@pytest.mark.parametrize("seed", [20260126])
def test_every_pod_runs_when_it_may_and_never_before(walk: Walk, seed: int) -> None:
    """Whatever changes or fails in any order, no pod runs on a bad verdict and none waits long on a good one."""
    walk.chance.seed(seed)
    done: Counter[str] = Counter()
    while sum(done.values()) < STEPS:
        (step,) = walk.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        done_now = getattr(walk, step)()
        if done_now:
            done[step] += 1
            walk.trail.append(f"{len(walk.trail)} {time.time():.2f} {done_now}")
        walk.check()
        if step not in {"create_pod", "delete_pod"} and walk.chance.random() < RESTS:
            walk.rest()
    if walk.world.down:
        walk.mend()
    deadline = walk.recovered + GRACE + walk.limit
    while time.time() < deadline and any(walk.overdue(pod, time.time()) > -GRACE for pod in walk.pods.values()):
        walk.check()
        time.sleep(0.05)  # between two checks
    walk.check()
    log.info("steps %s; %d pods ran; slowest request %.2f s", dict(done), walk.released, max(walk.requests))
    assert set(done) | {"mend"} == set(WEIGHTS), "a step was never taken; what is down is also mended by the next break"
    for target in (EVIL, GONE):
        assert any(f"leads to {target}" in step for step in walk.trail)
    assert walk.released > STEPS // 10
