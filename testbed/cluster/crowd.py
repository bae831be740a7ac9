"""A thousand held pods, and how long after their migration each was released."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from testbed.cluster.application import FIRST, Application, migrate, write_migrations
from testbed.cluster.pod_watch import PodWatch, Sight
from testbed.ledger_times import last_commit
from testbed.waiting import until

DEPLOYMENTS = 10
REPLICAS = 100
PODS = DEPLOYMENTS * REPLICAS


@dataclass(frozen=True, slots=True)
class Crowd:
    """Pods that wait for one migration.

    Attributes:
        deployments: How many Deployments they are of.
        replicas: How many pods each has.
    """

    application: Application
    database: str
    deployments: int = DEPLOYMENTS
    replicas: int = REPLICAS

    @property
    def pods(self) -> int:
        """How many there are."""
        return self.deployments * self.replicas

    def gather(self) -> None:
        """Opt in and apply the Deployments; returns when the controller knows of every pod."""
        self.application.opt_in(self.database)
        for number in range(self.deployments):
            self.application.deploy(f"crowd-{number}", FIRST, replicas=self.replicas)
        until(
            f"{self.pods} held pods",
            lambda: self.application.status().get("heldPods") == self.pods,
            timeout=180,
            pause=0.5,
        )

    def release(self, migrations: Path) -> list[float]:
        """Migrate; gives after how many seconds from the commit each pod was released, in order."""
        with PodWatch(self.application.plane, self.application.namespace) as watch:
            committed = self.migrate(migrations)
            self._await_released(watch)
            released = first_ungated(watch.sights)
        return sorted(at - committed for at in released.values())

    def migrate(self, migrations: Path) -> float:
        """Apply what the pods wait for; gives when it was committed, in Unix time."""
        migrate(write_migrations(migrations, (FIRST,)), self.database)
        return last_commit(self.database)

    def _await_released(self, watch: PodWatch) -> None:
        what = f"{self.pods} released pods"
        try:
            until(what, lambda: len(first_ungated(watch.sights)) == self.pods, timeout=120, pause=0.2)
        except AssertionError as late:
            known, seen = len(first_ungated(watch.sights)), len({sight.name for sight in watch.sights})
            raise AssertionError(f"{late}; {known} of {seen}; status {self.application.status()}") from late


def first_ungated(sights: Iterable[Sight]) -> dict[str, float]:
    """When each pod was first seen without our gate."""
    times: dict[str, float] = {}
    for sight in sights:
        if not sight.gated:
            times.setdefault(sight.name, sight.at)
    return times
