"""The three releases of docs/expand-contract.md on a real control plane: each running pod's schema is always there."""

from __future__ import annotations

import json
import logging
import os
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from testbed.cluster.kubelet import Kubelet
from testbed.cluster.release_checker import ReleaseChecker
from testbed.waiting import until
from tests.three_releases import (
    NAME,
    PODS,
    USES,
    deployment,
    insert_rows,
    knex_images,
    knex_objects,
    migrators,
    native_images,
    native_objects,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from testbed.cluster.application import Application
    from testbed.cluster.helm import Helm

    Objects = Callable[[int], list[dict[str, Any]]]

log = logging.getLogger(__name__)

STRAGGLER = "straggler"
"""Name of a pod that no rollout ends."""
RELEASES = int(os.environ.get("LEDGERGATE_RELEASES", "1"))
"""Seeds; more of them find rarer orders."""


class Team:
    """The application's team, whose choices and moments are random.

    Args:
        application: where it applies.
        checker: shows it which releases run.
        chance: source of its choices.
        objects: returns all objects of a release.
    """

    def __init__(
        self, application: Application, checker: ReleaseChecker, chance: random.Random, objects: Objects
    ) -> None:
        self._application = application
        self._checker = checker
        self._chance = chance
        self._objects = objects
        self.steps: list[str] = []
        """What was done, for the message."""

    def apply(self, release: int) -> None:
        """Apply everything of a release at once, in a random order."""
        documents = self._objects(release)
        self._chance.shuffle(documents)
        self.steps.append(f"apply {release}: {[each['metadata']['name'] for each in documents]}")
        self._apply(documents)

    def roll_back(self, release: int) -> None:
        """Go back to a release: its Deployment alone, as `kubectl rollout undo` does."""
        self.steps.append(f"back to {release}")
        self._apply([deployment(release)])

    def _apply(self, documents: list[dict[str, Any]]) -> None:
        text = yaml.safe_dump_all(documents)
        self._application.plane.kubectl("apply", "-n", self._application.namespace, "-f", "-", stdin=text)

    def start_straggler(self, release: int) -> None:
        """Start a pod that no rollout ends, such as that of a branch."""
        template = deployment(release)["spec"]["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] |= {"name": STRAGGLER, "namespace": self._application.namespace}
        self.steps.append(f"another pod of {release}")
        self._application.plane.apply(yaml.safe_dump(pod))
        until(self.steps[-1], lambda: self._checker.running().count(str(release)) > PODS)

    def end_straggler(self) -> None:
        """Wait until the contract migration is held, if only for that pod, and delete it."""
        self.steps.append("the contract migration waits")

        def waits() -> bool:
            waiting = self._application.status().get("contractWaiting")
            return bool(waiting and waiting["waitingFor"]) or bool(self._checker.errors)

        until(self.steps[-1], waits)
        self._application.plane.api.delete(f"/api/v1/namespaces/{self._application.namespace}/pods/{STRAGGLER}")

    def pause(self, seconds: float) -> None:
        """Let a random time pass: not to wait for anything, but to meet another moment with each seed."""
        drawn = self._chance.uniform(0, seconds)
        self.steps.append(f"{drawn:.2f} s later")
        time.sleep(drawn)

    def await_some(self, release: int) -> None:
        """Wait until a random number of a release's pods runs."""
        count = self._chance.randint(1, PODS)
        self.steps.append(f"{count} pods of {release} run")
        until(self.steps[-1], lambda: self._checker.running().count(str(release)) >= count)

    def await_end(self, release: int) -> None:
        """Wait until a release's pods run and no other's."""
        self.steps.append(f"only {release} runs")
        until(self.steps[-1], lambda: self._checker.running() == [str(release)] * PODS, timeout=90)

    def await_jobs(self, release: int) -> None:
        """Wait until the migrators of a release have succeeded."""
        self.steps.append(f"the migrators of {release} have ended")

        def done() -> bool:
            jobs = self._application.objects("batch/v1", "jobs")
            mine = [each for each in jobs if each["metadata"]["name"].endswith(f"-{release}")]
            return len(mine) == 2 and all(each["status"].get("succeeded") for each in mine)

        until(self.steps[-1], done, timeout=90)


def release_thrice(application: Application, kubelet: Kubelet, database: str, objects: Objects, seed: int) -> None:
    """Add, switch, back, drop; assert that no pod was ever without its schema and that one contract migrator ran."""
    chance = random.Random(seed)  # noqa: S311 - a seed, no secret
    with ReleaseChecker(application, f"app={NAME}", database, USES) as checker:
        team = Team(application, checker, chance, objects)
        try:
            run(team, chance, database)
        finally:
            log.info("seed %d: %s; asked %s; slowest %.2f s", seed, team.steps, checker.asked, checker.slowest)
            log.info(
                "releases that ran together: %s", json.dumps({"+".join(k): n for k, n in checker.together.items()})
            )
    assert checker.errors == [], team.steps
    assert all(checker.asked[release] for release in USES)
    contracts = [each for each in kubelet.of("migrate") if "contract-3" in each.pod and each.code == 0]
    assert len(contracts) == 1


def run(team: Team, chance: random.Random, database: str) -> None:
    """Do the three releases, with a rollback from the second and, by the seed, one from the third."""
    team.apply(0)
    team.await_end(0)
    team.await_jobs(0)
    insert_rows(database)
    team.apply(1)
    team.await_end(1)
    team.await_jobs(1)
    team.apply(2)
    team.await_some(2)
    team.roll_back(1)
    team.await_end(1)
    team.start_straggler(1)
    if chance.random() < 0.5:
        team.apply(2)
        team.await_some(2)
    team.apply(3)
    team.end_straggler()
    if chance.random() < 0.5:
        team.pause(2.0)
        team.roll_back(chance.choice((1, 2)))
        team.pause(2.0)
        team.apply(3)
    team.await_end(3)
    team.await_jobs(3)


@pytest.mark.parametrize("seed", range(RELEASES))
def test_three_releases_with_a_rollback(application: Application, database: str, tmp_path: Path, seed: int) -> None:
    """Add, switch, back, drop, all objects at once in any order: no pod is ever without its schema; each ends."""
    application.opt_in(database)
    with Kubelet(application.plane, application.namespace, native_images(tmp_path)) as kubelet:
        release_thrice(application, kubelet, database, native_objects, seed)


@pytest.mark.parametrize("seed", range(RELEASES))
def test_three_releases_by_knex(application: Application, database: str, tmp_path: Path, seed: int) -> None:
    """The same with Knex under `exec`: the pod says what it brings, and the LedgerGate has the boundary."""
    application.opt_in(database, ledger={"dialect": "knex"})
    with Kubelet(application.plane, application.namespace, knex_images(tmp_path)) as kubelet:
        release_thrice(application, kubelet, database, partial(knex_objects, database=database), seed)


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """An empty chart."""
    directory = tmp_path / "chart"
    (directory / "templates").mkdir(parents=True)
    (directory / "Chart.yaml").write_text("{apiVersion: v2, name: app, version: 1.0.0}\n")
    return directory


def test_three_releases_by_helm(
    helm: Helm, application: Application, database: str, tmp_path: Path, chart: Path
) -> None:
    """Add, switch, back and drop with the guide's hooks; helm does not wait for the rollout, the last hook does."""
    application.opt_in(database)
    at = ("app", "-n", application.namespace)

    def upgrade(release: int) -> None:
        early = settings(release)
        early["metadata"]["annotations"] = {"helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-weight": "-1"}
        objects = [early, deployment(release), *migrators(release, hooks=True)]
        (chart / "templates" / "all.yaml").write_text(yaml.safe_dump_all(objects))
        helm("upgrade", "--install", *at[:1], str(chart), *at[1:])

    with (
        Kubelet(application.plane, application.namespace, native_images(tmp_path)) as kubelet,
        ReleaseChecker(application, f"app={NAME}", database, USES) as checker,
    ):
        team = Team(application, checker, random.Random(0), native_objects)  # noqa: S311 - a seed, no secret
        upgrade(0)
        team.await_end(0)
        insert_rows(database)
        for release in (1, 2):
            upgrade(release)
            team.await_end(release)
        helm("rollback", *at[:1], "2", *at[1:])
        team.await_end(1)
        upgrade(3)
        team.await_end(3)
        runs = kubelet.of("migrate", "app-contract-3")
    assert checker.errors == []
    assert checker.together["1", "3"], "the contract migration had nothing to wait for"
    assert [each.code for each in runs] == [0]
