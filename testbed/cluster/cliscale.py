"""The mission's application on a test control plane: its real chart, its real migrations, a real Knex."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg
import yaml

from testbed.cluster.container import Image
from testbed.cluster.helm import Helm
from testbed.cluster.kubelet import Kubelet
from testbed.controlplane import ControlPlane
from testbed.tools import install
from testbed.waiting import until

EXAMPLE = Path(__file__).parents[2] / "manifests/examples/cliscale"
CHART = EXAMPLE / "cliscale-chart"
CONTROLLER = "cliscale/controller"
LEDGERGATE = Path(sys.executable).with_name("ledgergate")
GATE = "ledgergate.dev/ledger"
OLDER, CURRENT, BROKEN, FIXED = "1.1.0", "1.2.0", "1.3.0", "1.3.1"
"""Tags of the images: the last migration missing; as the example stands; one more, which fails; the same, mended."""

NEXT_MIGRATION = "20250201101500_split_names.js"
_NEXT = "exports.up = (knex) => knex.raw('select {}');\nexports.down = () => Promise.resolve();\n"


def build_images(directory: Path) -> dict[str, Image]:
    """Make the images of the controller: directories with the application's own files.

    Raises:
        InstallError: Knex is not in the cache, and cannot be installed.
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
    """What an image expects of its ledger: the command that CI runs."""
    directory = str(image.directory / "src/migrations")
    command = [str(LEDGERGATE), "migrate", "revision", "--dialect", "knex", "--dir", directory]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def secret(database: str) -> dict[str, str]:
    """The keys of the Secret `pg`."""
    url = urlsplit(database)
    return {
        "host": url.hostname or "",
        "port": str(url.port),
        "database": url.path.strip("/"),
        "username": unquote(url.username or ""),
        "password": unquote(url.password or ""),
    }


async def ledger(database: str) -> list[str]:
    """The names that Knex has recorded, in its order; each is there as often as it was run."""
    connection = await asyncpg.connect(database)
    try:
        if await connection.fetchval("select to_regclass('knex_migrations')") is None:
            return []
        return [row["name"] for row in await connection.fetch("select name from knex_migrations order by id")]
    finally:
        await connection.close()


@dataclass(frozen=True)
class Cliscale:
    """The application in one namespace, with a kubelet that runs its migrations.

    Args:
        guard: the namespace of the ledgergate that guards it.
    """

    plane: ControlPlane
    helm: Helm
    kubelet: Kubelet
    images: Mapping[str, Image]
    namespace: str
    database: str
    guard: str

    def prepare(self) -> None:
        """Do what the platform team does: the namespace's label, the database's Secret."""
        self.plane.kubectl("label", "namespace", self.namespace, "ledgergate.dev/admission=enabled", "--overwrite")
        whole = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pg", "namespace": self.namespace}}
        self.plane.apply(yaml.safe_dump({**whole, "stringData": secret(self.database)}))

    def flags(self, tag: str, *more: str) -> list[str]:
        """Give the arguments of an upgrade to an image."""
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
        """Begin an upgrade."""
        return self.helm.start(*self.flags(tag, *more))

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """Run kubectl in the namespace."""
        return self.plane.kubectl(*arguments, "-n", self.namespace, check=check, timeout=60)

    def get(self, what: str, *flags: str) -> Any:
        """Read an object, or a list's items."""
        found = json.loads(self.kubectl("get", what, *flags, "-o", "json"))
        return found.get("items", found)

    def pods(self, component: str) -> list[dict[str, Any]]:
        """The pods of a component that are not going away."""
        found = self.get("pods", "-l", f"app.kubernetes.io/component={component}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def held(self, component: str) -> list[str]:
        """Names of the component's pods that wait for their gate."""
        return [pod["metadata"]["name"] for pod in self.pods(component) if _gated(pod)]

    def await_held(self, component: str, count: int) -> list[str]:
        """Wait until so many pods of a component are held."""
        return until(
            f"{count} held pods of {component}", lambda: held if len(held := self.held(component)) == count else []
        )

    def await_running(self, component: str, count: int, tag: str) -> None:
        """Wait until so many pods of an image run, and no other is left."""

        def all_run() -> bool:
            pods = self.pods(component)
            fresh = [pod for pod in pods if pod["spec"]["containers"][0]["image"].endswith(f":{tag}")]
            return len(pods) == len(fresh) == count and all(pod["status"]["phase"] == "Running" for pod in fresh)

        until(f"{count} running pods of {component} {tag}", all_run)

    def why(self, pod: str) -> str:
        """What the Events say about a held pod."""

        def said() -> str:
            events = self.get("events", f"--field-selector=involvedObject.name={pod}")
            return next((event["message"] for event in events if event["reason"] == "Held"), "")

        return until(f"an Event that says why {pod} is held", said)


def _gated(pod: dict[str, Any]) -> bool:
    return any(gate["name"] == GATE for gate in pod["spec"].get("schedulingGates", ()))
