"""SIGKILL of the webhook, the controller or both at any time: the result is the same."""

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.cluster.application import THIRD, Application, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.cluster.pod_watch import PodWatch
from testbed.waiting import until

STORY_SECONDS = 2.5
"""About how long the test takes without a kill on a slow machine; the kill comes within this time."""


@pytest.mark.parametrize("seed", range(12))
def test_the_story_ends_with_the_pods_running(
    application: Application, installation: Installation, database: str, tmp_path: Path, seed: int
) -> None:
    """Whatever is killed at any time, no pod starts before its migrations, and all run after them."""
    chance = random.Random(seed)  # noqa: S311 - a seed, no secret
    victims = chance.choice([("webhook",), ("controller",), ("webhook", "controller")])
    migrations = write_migrations(tmp_path / "migrations")
    with PodWatch(application.plane, application.namespace) as watch:
        fault = _later(chance.uniform(0, STORY_SECONDS), lambda: _kill_and_restart(installation, victims))
        try:
            application.opt_in(database)
            application.deploy("gateway", THIRD)
            application.await_held("gateway")
            early = [sight for sight in watch.sights if not sight.gated]
            assert not early, "a pod without a gate before its migrations"
            migrate(migrations, database)
            application.await_running("gateway")
        finally:
            fault.join()
        # Pods that are created after the kill start as usual.
        application.deploy("late", THIRD)
        application.await_running("late")
        until("the status", lambda: application.status().get("heldPods") == 0)


def _later(seconds: float, act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


def _kill_and_restart(installation: Installation, victims: tuple[str, ...]) -> None:
    for victim in victims:
        installation.kill(victim)
    installation.ensure()
