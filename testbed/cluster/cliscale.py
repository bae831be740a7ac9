"""The mission's application on a test control plane, with its chart, its migrations and Knex."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg
import yaml

from testbed.cluster.application import Application, is_held
from testbed.cluster.container import Image
from testbed.cluster.helm import Helm
from testbed.cluster.kubelet import Kubelet
from testbed.controlplane import ControlPlane
from testbed.forks import shared
from testbed.tools import install
from testbed.waiting import until

EXAMPLE = Path(__file__).parents[2] / "manifests/examples/cliscale"
CHART = EXAMPLE / "cliscale-chart"
CONTROLLER = "cliscale/controller"
LEDGERGATE = Path(sys.executable).with_name("ledgergate")
OLDER, CURRENT, BROKEN, FIXED = "1.1.0", "1.2.0", "1.3.0", "1.3.1"
"""Tags of the images: without the last migration; the example as it is; with one more, which fails; with that fixed."""

NEXT_MIGRATION = "20250201101500_split_names.js"
_NEXT = "exports.up = (knex) => knex.raw('select {}');\nexports.down = () => Promise.resolve();\n"


def build_images(directory: Path) -> dict[str, Image]:
    """Return the images of the controller: directories with copies of the application's files.

    Raises:
        InstallError: Knex is not in the cache and cannot be installed.
    """
    modules, programs = install.npm(install.PINS, install.place(), print), Path(sys.executable).parent
    images = {}
    for tag in (OLDER, CURRENT, BROKEN, FIXED):
        home = directory / tag
        shutil.copytree(EXAMPLE / "controller", home)
        (home / "node_modules").symlink_to(modules)
        migrations = home / "src/migrations"
        if tag == OLDER:
            max(migrations.iterdir()).unlink()
        if tag in {BROKEN, FIXED}:
            (migrations / NEXT_MIGRATION).write_text(_NEXT.format("1 / 0" if tag == BROKEN else "1"))
        images[f"{CONTROLLER}:{tag}"] = Image(home, path=(programs,))
    return images


def revision(image: Image) -> str:
    """Return the revision that an image expects, by the command that CI runs."""
    with TemporaryDirectory() as written:
        run = shared().start(
            *("migrate", "revision", "--dialect", "knex", "--dir", "src/migrations"),
            directory=image.directory,
            environment=os.environ,
            output=Path(written, "output"),
        )
        assert run.wait() == 0, run.output
        return run.output.strip()


def secret(database: str) -> dict[str, str]:
    """Return the data of the Secret `pg`."""
    url = urlsplit(database)
    return {
        "host": url.hostname or "",
        "port": str(url.port),
        "database": url.path.strip("/"),
        "username": unquote(url.username or ""),
        "password": unquote(url.password or ""),
    }


async def ledger(database: str) -> list[str]:
    """Return the names in Knex's table in its order, one for each time that a migration was run."""
    connection = await asyncpg.connect(database)
    try:
        if await connection.fetchval("select to_regclass('knex_migrations')") is None:
            return []
        return [row["name"] for row in await connection.fetch("select name from knex_migrations order by id")]
    finally:
        await connection.close()


async def last_applied_at(database: str) -> datetime:
    """Return when Knex recorded its newest migration, a moment before the commit."""
    connection = await asyncpg.connect(database)
    try:
        at: datetime = await connection.fetchval("select max(migration_time) from knex_migrations")
        return at
    finally:
        await connection.close()


@dataclass(frozen=True)
class Cliscale:
    """The application in one namespace, with a kubelet that runs its migrations.

    Args:
        guard: namespace of ledgergate.
    """

    plane: ControlPlane
    helm: Helm
    kubelet: Kubelet
    images: Mapping[str, Image]
    namespace: str
    database: str
    guard: str

    def prepare(self) -> None:
        """Label the namespace and create the database's Secret, as the platform team does."""
        self.plane.kubectl("label", "namespace", self.namespace, "ledgergate.dev/admission=enabled", "--overwrite")
        whole = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pg", "namespace": self.namespace}}
        self.plane.apply(yaml.safe_dump({**whole, "stringData": secret(self.database)}))

    def flags(self, tag: str, *more: str) -> list[str]:
        """Return the arguments of an upgrade to an image."""
        sets = {
            "namespace.name": self.namespace,
            "ledgerGate.installedIn": self.guard,
            "controller.image.tag": tag,
            "gateway.image.tag": tag,
            "revision": revision(self.images[f"{CONTROLLER}:{tag}"]),
        }
        settings = [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
        return ["upgrade", "cliscale", str(CHART), "--install", "-n", self.namespace, *settings, *more]

    def upgrade(self, tag: str, *more: str) -> str:
        """Install or upgrade to an image."""
        return self.helm(*self.flags(tag, *more))

    def start_upgrade(self, tag: str, *more: str) -> subprocess.Popen[str]:
        """Start an upgrade without waiting for its end."""
        return self.helm.start(*self.flags(tag, *more))

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """Run kubectl in the namespace."""
        return self.plane.kubectl(*arguments, "-n", self.namespace, check=check, timeout=120)

    def get(self, what: str, *flags: str) -> Any:
        """Return an object, or the items of a list."""
        found = json.loads(self.kubectl("get", what, *flags, "-o", "json"))
        return found.get("items", found)

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the pods of a component that are not terminating."""
        found = self._objects("pods", labelSelector=f"app.kubernetes.io/component={component}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def gate_status(self) -> dict[str, Any]:
        """Return the status of the LedgerGate."""
        return Application(self.plane, self.namespace).status("cliscale")

    def held(self, component: str) -> list[str]:
        """Return the names of a component's pods that have the scheduling gate."""
        return [pod["metadata"]["name"] for pod in self.pods(component) if is_held(pod)]

    def await_held(self, component: str, count: int) -> list[str]:
        """Wait until `count` pods of a component are held, and return their names."""
        return until(
            f"{count} held pods of {component}", lambda: held if len(held := self.held(component)) == count else []
        )

    def await_running(self, component: str, count: int, tag: str) -> None:
        """Wait until a component has `count` pods, all of one image and running."""

        def all_run() -> bool:
            pods = self.pods(component)
            fresh = [pod for pod in pods if pod["spec"]["containers"][0]["image"].endswith(f":{tag}")]
            return len(pods) == len(fresh) == count and all(pod["status"]["phase"] == "Running" for pod in fresh)

        until(f"{count} running pods of {component} {tag}", all_run)

    def why(self, pod: str) -> str:
        """Wait for an Event on a held pod, and return its message."""

        def message() -> str:
            events = self._objects("events", fieldSelector=f"involvedObject.name={pod}")
            return next((event["message"] for event in events if event["reason"] == "Held"), "")

        return until(f"an Event that says why {pod} is held", message)

    def _objects(self, collection: str, **selectors: str) -> list[dict[str, Any]]:
        return Application(self.plane, self.namespace).objects("v1", collection, **selectors)
