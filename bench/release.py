"""How long after a migration's commit held pods are released, and how long pods are held while no webhook runs."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.bare_client import patch_rate
from testbed.cluster.application import FIRST, Application, migrate, write_migrations
from testbed.cluster.crowd import DEPLOYMENTS, Crowd
from testbed.cluster.installation import Installation
from testbed.cluster.pod_watch import PodWatch, Sight
from testbed.controlplane import ControlPlane
from testbed.ledger_times import last_commit
from testbed.postgres import Postgres

ROUNDS = 20
PODS = 3
CROWDS = {100: 5, 1000: 1}
"""How often crowds are measured, by the replicas of each of their Deployments."""
OF_BARE = 0.8
"""Target: the share of the rate of a client that only patches, at least."""
FIRST_SECONDS = 0.15
"""Target: from the commit to the release of a crowd's first pod, at most."""


def measure(plane: ControlPlane, postgres: Postgres) -> dict[str, dict[str, float]]:
    """Measure both in milliseconds, over :data:`ROUNDS` rounds of :data:`PODS` pods."""
    first: list[float] = []
    every: list[float] = []
    alone: list[float] = []
    with Installation(plane) as installation, TemporaryDirectory() as directory:
        migrations = write_migrations(Path(directory), (FIRST,))
        for number in range(ROUNDS):
            delays = _after_commit(_application(plane, f"hold-{number}"), postgres, migrations)
            first.append(delays[0])
            every += delays
        application = _application(plane, "outage")
        database = postgres.create_database()
        migrate(migrations, database)
        application.opt_in(database)
        installation.kill("webhook")
        for number in range(ROUNDS):
            alone += _without_webhook(application, f"gateway-{number}")
    return {
        "first of 3 held pods released after the commit": summary(first),
        "every held pod released after the commit": summary(every),
        "good pod held while every webhook is dead": summary(alone),
    }


def scale(plane: ControlPlane, postgres: Postgres) -> dict[str, Any]:
    """Measure in milliseconds how soon after a commit crowds of held pods of ten Deployments are released.

    Measures also the rate of releases, from the first to the last, beside the rate of a client that only patches, in
    the same run.
    """
    found: dict[str, Any] = {"figures": []}
    with Installation(plane), TemporaryDirectory() as directory:
        for replicas, turns in CROWDS.items():
            pods = replicas * DEPLOYMENTS
            delays = [
                _release_crowd(plane, postgres, f"crowd-{pods}-{turn}", replicas, Path(directory))
                for turn in range(turns)
            ]
            found[f"first of {pods:,} held pods released after the commit"] = summary(each[0] for each in delays)
            found[f"last of {pods:,}"] = summary(each[-1] for each in delays)
            found[f"each of {pods:,}"] = summary(second for each in delays for second in each)
            found["figures"] += _crowd_figures(pods, delays, patch_rate(plane, pods))
    return found


def _release_crowd(
    plane: ControlPlane, postgres: Postgres, namespace: str, replicas: int, migrations: Path
) -> list[float]:
    """Return the seconds from a commit to the release of each pod, sorted."""
    crowd = Crowd(_application(plane, namespace), postgres.create_database(), replicas=replicas)
    crowd.gather()
    delays = crowd.release(migrations)
    # The pods of one crowd must not keep the controller busy during the next.
    plane.kubectl("delete", "namespace", namespace, "--timeout=900s", timeout=910)
    return delays


def _crowd_figures(pods: int, delays: Sequence[Sequence[float]], bare: float) -> Iterator[dict[str, Any]]:
    share = statistics.median((pods - 1) / (each[-1] - each[0]) for each in delays) / bare
    yield {
        "figure": f"rate of {pods:,} releases, of a bare client's patches ({bare:.0f} a second)",
        "ratio": round(share, 2),
        "target": OF_BARE,
        "holds": share >= OF_BARE,
    }
    begin = statistics.median(each[0] for each in delays)
    yield {
        "figure": f"seconds until the first of {pods:,}",
        "ratio": round(begin, 3),
        "target": FIRST_SECONDS,
        "holds": begin <= FIRST_SECONDS,
    }


def summary(seconds: Iterable[float]) -> dict[str, float]:
    """Return the median, 95th percentile and maximum in milliseconds, and the count."""
    values = sorted(second * 1000 for second in seconds)
    return {
        "median_ms": round(statistics.median(values), 1),
        "p95_ms": round(values[max(0, -(-95 * len(values) // 100) - 1)], 1),
        "max_ms": round(values[-1], 1),
        "count": len(values),
    }


def _application(plane: ControlPlane, namespace: str) -> Application:
    plane.kubectl("create", "namespace", namespace)
    plane.kubectl("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=30s")
    return Application(plane, namespace)


def _after_commit(application: Application, postgres: Postgres, migrations: Path) -> list[float]:
    database = postgres.create_database()
    application.opt_in(database)
    with PodWatch(application.plane, application.namespace) as watch:
        application.deploy("gateway", FIRST, replicas=PODS)
        application.await_held("gateway", PODS)
        migrate(migrations, database)
        application.await_running("gateway", PODS)
        released = _first(sight for sight in watch.sights if not sight.gated)
    committed = last_commit(database)
    return sorted(at - committed for at in released.values())


def _without_webhook(application: Application, name: str) -> list[float]:
    with PodWatch(application.plane, application.namespace) as watch:
        application.deploy(name, FIRST, replicas=PODS)
        application.await_running(name, PODS)
        mine = [sight for sight in watch.sights if sight.labels.get("app") == name]
    held, released = _first(s for s in mine if s.gated), _first(s for s in mine if not s.gated)
    return [released[pod] - held[pod] for pod in released if pod in held]


def _first(sights: Iterable[Sight]) -> dict[str, float]:
    times: dict[str, float] = {}
    for sight in sights:
        times.setdefault(sight.name, sight.at)
    return times
