"""The three releases of docs/expand-contract.md as images, by two tools, and as objects of a cluster."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import yaml

from migrations.files.native import parse
from testbed.cluster.application import REVISION, gate_manifest
from testbed.cluster.cliscale import CHART, EXAMPLE, secret
from testbed.cluster.container import Image
from testbed.cluster.release_checker import RELEASE
from testbed.tools import install
from tests.integration.test_docs_expand_contract import NEW, OLD, PAGE, use
from tests.pages import blocks, marked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.cluster.release_checker import Use

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
LAST = len(DIRECTORY) - 1
"""The release that brings the contract migration."""
CONTRACT = {"revision": DROP, "compatibleFrom": FILL}
"""It, as the LedgerGate has it for a tool whose ledger records no boundary."""
USES: Mapping[str, Use] = {str(release): partial(use, version=OLD if release < 2 else NEW) for release in range(4)}
ROWS = 2500
"""Users before release 1: the backfill takes three portions."""
_NEW = re.compile(r"migrate new \"(?P<title>[^\"]+)\"\)\" <<'?SQL'?\n(?P<sql>.*?)^SQL$", re.MULTILINE | re.DOTALL)
_JAVASCRIPT = """exports.up = (knex) => knex.raw(`{sql}`);
exports.down = () => Promise.reject(new Error("not undone here"));
exports.config = {{ transaction: {transaction} }};
"""


def native_images(directory: Path) -> dict[str, Image]:
    """Return the image of each release: its directory has the guide's migrations up to that release."""
    images = {}
    for release in range(len(DIRECTORY)):
        home = directory / str(release)
        _write(home / "migrations", DIRECTORY[: release + 1])
        images[f"app:{release}"] = Image(home, path=(Path(sys.executable).parent,))
    return images


def knex_images(directory: Path, named: str = "app:{}") -> dict[str, Image]:
    """Return the images with the same statements as migrations of Knex, and with the example's knexfile.js.

    Args:
        directory: Where they are made.
        named: Their name, with `{}` in the place of the release.
    """
    try:
        modules = install.npm(install.PINS, install.place(), lambda _: None)
    except install.InstallError as reason:
        pytest.skip(str(reason))
    source = _write(directory / "native", DIRECTORY)
    images = {}
    for release in range(len(DIRECTORY)):
        home = directory / str(release)
        for folder in ("migrations", "contracts"):
            (home / "src" / folder).mkdir(parents=True)
        (home / "node_modules").symlink_to(modules)
        for name in ("knexfile.js", "package.json"):
            shutil.copy(EXAMPLE / "controller" / name, home)
        for migration in DIRECTORY[: release + 1]:
            file = source / f"{migration}.sql"
            section = parse(file, file.read_bytes()).up
            text = _JAVASCRIPT.format(sql=section.sql, transaction=str(section.transactional).lower())
            folder = "contracts" if migration == DROP else "migrations"
            (home / "src" / folder / f"{migration}.js").write_text(text)
        images[named.format(release)] = Image(home, path=(Path(sys.executable).parent,))
    return images


def _write(directory: Path, names: tuple[str, ...]) -> Path:
    found = {each["title"].replace(" ", "_"): each["sql"] for each in _NEW.finditer("\n".join(marked(PAGE)))}
    directory.mkdir(parents=True)
    for name in names:
        sql = found[name.partition("_")[2]].replace("$switched", FILL)
        (directory / f"{name}.sql").write_text(sql)
    return directory


def deployment(release: int) -> dict[str, Any]:
    """Return the application, which reads a ConfigMap of its release."""
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
    """Return the guide's Jobs, with the gate, the image and the settings of a release."""
    jobs: list[dict[str, Any]] = list(yaml.safe_load_all(blocks(PAGE, "yaml")[0].replace("shop", "app")))
    for job in jobs:
        job["metadata"]["name"] += f"-{release}"
        if not hooks:
            del job["metadata"]["annotations"]
        template = job["spec"]["template"]
        template["metadata"]["labels"] |= {"guarded": "true"}
        if release < LAST:
            template["metadata"]["annotations"].pop("ledgergate.dev/contract", None)
        # A real kubelet waits for a ConfigMap that comes after the pod; the tests' kubelet counts it as a failed run.
        template["spec"]["restartPolicy"] = "OnFailure"
        (container,) = template["spec"]["containers"]
        container["image"] = f"app:{release}"
        container["envFrom"] = [{"configMapRef": {"name": f"settings-{release}"}}]
        at = {"secretKeyRef": {"name": "pg", "key": "url"}}
        container["env"] = [{"name": "LEDGERGATE_DATABASE_URL", "valueFrom": at}]
    return jobs


def settings(release: int, **data: str) -> dict[str, Any]:
    """Return the ConfigMap of a release; its migrators do not start without it."""
    data = {"LEDGERGATE_DIR": "migrations", **data}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"settings-{release}"}, "data": data}


def native_objects(release: int) -> list[dict[str, Any]]:
    """Return all that the team applies for a release, with ledgergate's own migrator."""
    return [settings(release), deployment(release), *migrators(release)]


def knex_objects(release: int, database: str) -> list[dict[str, Any]]:
    """Return all that the team applies for a release with Knex: its migrators run the example's command.

    The LedgerGate is among them, since it says with the last release what its contract migration breaks.
    """
    where = {f"DB_{name.upper().replace('DATABASE', 'NAME')}": value for name, value in secret(database).items()}
    where["DB_USER"] = where.pop("DB_USERNAME")
    command = yaml.safe_load((CHART / "values.yaml").read_text())["migrations"]["command"]
    jobs = migrators(release)
    for job, phase in zip(jobs, ("expand", "contract"), strict=True):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        container["command"] = command
        expected = DROP if phase == "contract" and release == LAST else NEEDS[release]
        container["env"] += [
            {"name": "LEDGERGATE_PHASE", "value": phase},
            {"name": "LEDGERGATE_EXPECT", "value": expected},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ]
    return [
        settings(release, NODE_ENV="production", **where),
        knex_gate(release),
        deployment(release),
        *jobs,
    ]


def knex_gate(release: int) -> dict[str, Any]:
    """Return the LedgerGate of a release whose migrations Knex runs."""
    contracts = [CONTRACT] if release == LAST else []
    return gate_manifest(ledger={"dialect": "knex"}, contracts=contracts)


def insert_rows(database: str) -> None:
    """Add the users that the backfill has to fill to the table of release 0."""

    async def insert() -> None:
        connection = await asyncpg.connect(database)
        try:
            rows = "insert into users (email, name) select i || '@before', 'Ada' from generate_series(1, $1::int) i"
            await connection.execute(rows, ROWS)
        finally:
            await connection.close()

    asyncio.run(insert())
