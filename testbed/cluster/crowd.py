"""Many held pods, and how long after their migration each of them was released."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from testbed.cluster.application import FIRST, Application, migrate, write_migrations
from testbed.cluster.pod_watch import PodWatch, Sight
from testbed.ledger_times import last_commit
from testbed.waiting import until

DEPLOYMENTS = 10
REPLICAS = 100
DEADLINE, DEADLINE_PER_POD = 120.0, 0.2
"""Seconds for all pods, and more for each of them; far more than it takes."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Pods of several Deployments that wait for one migration.

    Attributes:
        deployments: Number of Deployments.
        replicas: Pods per Deployment.
    """

    application: Application
    database: str
    deployments: int = DEPLOYMENTS
    replicas: int = REPLICAS

    @property
    def pods(self) -> int:
        """Number of pods."""
        return self.deployments * self.replicas

    def gather(self) -> None:
        """Opt in, apply the Deployments, and wait until the controller knows every pod."""
        self.application.opt_in(self.database)
        for number in range(self.deployments):
            self.application.deploy(f"crowd-{number}", FIRST, replicas=self.replicas)
        until(
            f"{self.pods} held pods",
            lambda: self.application.status().get("heldPods") == self.pods,
            timeout=DEADLINE + self.pods * DEADLINE_PER_POD,
            pause=0.5,
        )

    def release(self, migrations: Path) -> list[float]:
        """Migrate; return the seconds from the commit to the release of each pod, sorted."""
        with PodWatch(self.application.plane, self.application.namespace) as watch:
            committed = self.migrate(migrations)
            self._await_released(watch)
            released = first_ungated(watch.sights)
        return sorted(at - committed for at in released.values())

    def migrate(self, migrations: Path) -> float:
        """Apply the migration that the pods wait for; return the time of its commit, in Unix time."""
        migrate(write_migrations(migrations, (FIRST,)), self.database)
        return last_commit(self.database)

    def _await_released(self, watch: PodWatch) -> None:
        what = f"{self.pods} released pods"
        try:
            until(
                what,
                lambda: len(first_ungated(watch.sights)) == self.pods,
                timeout=DEADLINE + self.pods * DEADLINE_PER_POD,
                pause=0.2,
            )
        except AssertionError as late:
            known, seen = len(first_ungated(watch.sights)), len({sight.name for sight in watch.sights})
            raise AssertionError(f"{late}; {known} of {seen}; status {self.application.status()}") from late


def first_ungated(sights: Iterable[Sight]) -> dict[str, float]:
    """Return when each pod was first seen without the gate."""
    times: dict[str, float] = {}
    for sight in sights:
        if not sight.gated:
            times.setdefault(sight.name, sight.at)
    return times
