"""The three releases of docs/expand-contract.md on a real control plane: each running pod's schema is always there."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import yaml

from testbed.cluster.application import REVISION, Application, migrate
from testbed.cluster.container import Image
from testbed.cluster.kubelet import Kubelet
from testbed.cluster.release_checker import RELEASE, ReleaseChecker
from testbed.waiting import until
from tests.integration.test_docs_expand_contract import NEW, OLD, PAGE, use
from tests.pages import blocks, marked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.cluster.helm import Helm

log = logging.getLogger(__name__)

RELEASES = int(os.environ.get("LEDGERGATE_RELEASES", "1"))
"""Seeds; more of them find rarer orders."""
NAME = "gateway"
PODS = 3
SLOW = 1
"""Seconds from one pod of a rollout to the next; a pod here starts so fast that no migrator would end before it."""
USERS, ADD, FILL, DROP = DIRECTORY = (
    "20260222090000_create_users",
    "20260301090000_add_full_name",
    "20260308090000_fill_full_name",
    "20260315090000_drop_name",
)
"""The guide's migrations; its manifests name the last two."""
NEEDS = (USERS, ADD, FILL, FILL)
"""What the image of each release needs; release 0 is the one before the guide's first."""
USES = {"0": partial(use, version=OLD), "1": partial(use, version=OLD)} | {
    "2": partial(use, version=NEW),
    "3": partial(use, version=NEW),
}
ROWS = 2500
"""Users before release 1: the backfill takes three portions."""
_NEW = re.compile(r"migrate new \"(?P<title>[^\"]+)\"\)\" <<'?SQL'?\n(?P<sql>.*?)^SQL$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Image]:
    """The image of each release: its directory has the guide's migrations up to that release."""
    found = {each["title"].replace(" ", "_"): each["sql"] for each in _NEW.finditer("\n".join(marked(PAGE)))}
    made = {}
    for release in range(len(DIRECTORY)):
        directory = tmp_path / str(release) / "migrations"
        directory.mkdir(parents=True)
        for name in DIRECTORY[: release + 1]:
            sql = found[name.partition("_")[2]].replace("$switched", FILL)
            (directory / f"{name}.sql").write_text(sql)
        made[f"app:{release}"] = Image(directory.parent, path=(Path(sys.executable).parent,))
    return made


@pytest.fixture
def kubelet(application: Application, images: dict[str, Image]) -> Iterator[Kubelet]:
    """What runs the migrators."""
    with Kubelet(application.plane, application.namespace, images) as kubelet:
        yield kubelet


def deployment(release: int) -> dict[str, Any]:
    """The application, which reads a ConfigMap of its release."""
    labels = {"app": NAME, RELEASE: str(release), "guarded": "true"}
    container = {
        "name": "main",
        "image": f"app:{release}",
        "envFrom": [{"configMapRef": {"name": f"settings-{release}"}}],
    }
    template = {
        "metadata": {"labels": labels, "annotations": {REVISION: NEEDS[release]}},
        "spec": {"containers": [container]},
    }
    selector = {"matchLabels": {"app": NAME}}
    spec = {"replicas": PODS, "minReadySeconds": SLOW, "selector": selector, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME}, "spec": spec}


def migrators(release: int, *, hooks: bool = False) -> list[dict[str, Any]]:
    """The guide's Jobs, with the gate, the image and the settings of a release."""
    jobs: list[dict[str, Any]] = list(yaml.safe_load_all(blocks(PAGE, "yaml")[0].replace("shop", "app")))
    for job in jobs:
        job["metadata"]["name"] += f"-{release}"
        if not hooks:
            del job["metadata"]["annotations"]
        template = job["spec"]["template"]
        template["metadata"]["labels"] |= {"guarded": "true"}
        if release < len(DIRECTORY) - 1:
            template["metadata"]["annotations"].pop("ledgergate.dev/contract", None)
        # A real kubelet waits for a ConfigMap that comes after the pod; the tests' kubelet counts it as a failed run.
        template["spec"]["restartPolicy"] = "OnFailure"
        (container,) = template["spec"]["containers"]
        container["image"] = f"app:{release}"
        container["envFrom"] = [{"configMapRef": {"name": f"settings-{release}"}}]
        secret = {"secretKeyRef": {"name": "pg", "key": "url"}}
        container["env"] = [{"name": "LEDGERGATE_DATABASE_URL", "valueFrom": secret}]
    return jobs


def settings(release: int) -> dict[str, Any]:
    """The ConfigMap of a release; its migrators do not start without it."""
    data = {"LEDGERGATE_DIR": "migrations"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"settings-{release}"}, "data": data}


class Team:
    """The application's team, whose choices and moments are drawn."""

    def __init__(self, application: Application, checker: ReleaseChecker, chance: random.Random) -> None:
        self._application = application
        self._checker = checker
        self._chance = chance
        self.steps: list[str] = []
        """What was done, for the message."""

    def apply(self, release: int) -> None:
        """Apply everything of a release at once, in an order that is drawn."""
        documents = [settings(release), deployment(release), *migrators(release)]
        self._chance.shuffle(documents)
        self.steps.append(f"apply {release}: {[each['metadata']['name'] for each in documents]}")
        text = yaml.safe_dump_all(documents)
        self._application.plane.kubectl("apply", "-n", self._application.namespace, "-f", "-", stdin=text)

    def roll_back(self, release: int) -> None:
        """Go back to a release: its Deployment alone, as `kubectl rollout undo` does."""
        self.steps.append(f"back to {release}")
        text = yaml.safe_dump(deployment(release))
        self._application.plane.kubectl("apply", "-n", self._application.namespace, "-f", "-", stdin=text)

    def pause(self, seconds: float) -> None:
        """Let a drawn time pass: not to wait for anything, but to meet another moment with each seed."""
        drawn = self._chance.uniform(0, seconds)
        self.steps.append(f"{drawn:.2f} s later")
        time.sleep(drawn)

    def await_some(self, release: int) -> None:
        """Wait until a drawn number of a release's pods runs."""
        count = self._chance.randint(1, PODS)
        self.steps.append(f"{count} pods of {release} run")
        until(self.steps[-1], lambda: self._checker.running().count(str(release)) >= count, timeout=60)

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


def fill(database: str, images: dict[str, Image]) -> None:
    """Make the table as it is before release 1, with rows that the backfill has to fill."""

    async def insert() -> None:
        connection = await asyncpg.connect(database)
        try:
            rows = "insert into users (email, name) select i || '@before', 'Ada' from generate_series(1, $1::int) i"
            await connection.execute(rows, ROWS)
        finally:
            await connection.close()

    migrate(images["app:0"].directory / "migrations", database)
    asyncio.run(insert())


@pytest.mark.parametrize("seed", range(RELEASES))
def test_three_releases_with_a_rollback(
    application: Application, kubelet: Kubelet, images: dict[str, Image], database: str, seed: int
) -> None:
    """Add, switch, back, drop, all objects at once in any order: no pod is ever without its schema; each ends."""
    chance = random.Random(seed)  # noqa: S311 - a seed, no secret
    fill(database, images)
    application.opt_in(database)
    with ReleaseChecker(application, NAME, database, USES) as checker:
        team = Team(application, checker, chance)
        try:
            run(team, chance)
        finally:
            log.info("seed %d: %s; asked %s; slowest %.2f s", seed, team.steps, checker.asked, checker.slowest)
            log.info(
                "releases that ran together: %s", json.dumps({"+".join(k): n for k, n in checker.together.items()})
            )
    assert checker.errors == [], team.steps
    assert all(checker.asked[release] for release in USES)
    contracts = [each for each in kubelet.of("migrate") if "contract-3" in each.pod and each.code == 0]
    assert len(contracts) == 1


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """An empty chart."""
    directory = tmp_path / "chart"
    (directory / "templates").mkdir(parents=True)
    (directory / "Chart.yaml").write_text("{apiVersion: v2, name: app, version: 1.0.0}\n")
    return directory


def test_three_releases_by_helm(
    helm: Helm, application: Application, kubelet: Kubelet, images: dict[str, Image], database: str, chart: Path
) -> None:
    """Add, switch, back and drop with the guide's hooks; helm does not wait for the rollout, the last hook does."""
    fill(database, images)
    application.opt_in(database)
    at = ("app", "-n", application.namespace)

    def upgrade(release: int) -> None:
        early = settings(release)
        early["metadata"]["annotations"] = {"helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-weight": "-1"}
        objects = [early, deployment(release), *migrators(release, hooks=True)]
        (chart / "templates" / "all.yaml").write_text(yaml.safe_dump_all(objects))
        helm("upgrade", "--install", *at[:1], str(chart), *at[1:])

    with ReleaseChecker(application, NAME, database, USES) as checker:
        team = Team(application, checker, random.Random(0))  # noqa: S311 - a seed, no secret
        for release in (0, 1, 2):
            upgrade(release)
            team.await_end(release)
        helm("rollback", *at[:1], "2", *at[1:])
        team.await_end(1)
        upgrade(3)
        team.await_end(3)
    assert checker.errors == []
    assert checker.together["1", "3"], "the contract migration had nothing to wait for"
    assert [each.code for each in kubelet.of("migrate", "app-contract-3")] == [0]


def run(team: Team, chance: random.Random) -> None:
    """Do the three releases, with a rollback from the second and, by the seed, one from the third."""
    team.apply(0)
    team.await_end(0)
    team.apply(1)
    team.await_end(1)
    team.await_jobs(1)
    team.apply(2)
    team.await_some(2)
    team.roll_back(1)
    if chance.random() < 0.5:
        team.await_end(1)
        team.apply(2)
        team.await_some(2)
    else:
        team.await_end(1)
    team.apply(3)
    if chance.random() < 0.5:
        team.pause(2.0)
        team.roll_back(chance.choice((1, 2)))
        team.pause(2.0)
        team.apply(3)
    team.await_end(3)
    team.await_jobs(3)
