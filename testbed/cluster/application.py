"""An application whose pods wait for its database: a namespace label, an annotation and a LedgerGate."""

import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from testbed.controlplane import ControlPlane
from testbed.forks import shared
from testbed.waiting import until

ROOT = Path(__file__).parents[2]
LEDGERGATE = Path(sys.executable).with_name("ledgergate")
GATE = "ledgergate.dev/ledger"
REVISION = "ledgergate.dev/revision"
ADMINISTRATOR = "test-admin"
"""User name of the plane's administrator."""
FIRST, SECOND, THIRD = "20260101000000_users", "20260102000000_orders", "20260103000000_index"
NAMES = (FIRST, SECOND, THIRD)


def in_an_hour() -> str:
    """Return the time an hour from now, as `spec.bypass.until` of a LedgerGate has it."""
    return f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"


def write_migrations(directory: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Write small migrations, one table each, into a directory and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        table = name.partition("_")[2]
        sql = f"-- migrate:up\ncreate table {table} (id int);\n\n-- migrate:down\ndrop table {table};\n"
        (directory / f"{name}.sql").write_text(sql)
    return directory


def migrate(directory: Path, database: str, *arguments: str, command: str = "up") -> str:
    """Run `ledgergate migrate` and return its output."""
    with TemporaryDirectory() as written:
        flags = ("--dir", str(directory), "--database-url", database)
        run = shared().start(
            "migrate",
            command,
            *flags,
            *arguments,
            directory=Path(written),
            environment=os.environ,
            output=Path(written, "output"),
        )
        code, output = run.wait(), run.output
    assert code == 0, output
    return output


@dataclass(frozen=True)
class Application:
    """The objects that an application team creates, in one namespace."""

    plane: ControlPlane
    namespace: str

    def opt_in(self, database: str, **spec: Any) -> None:
        """Label the namespace, let ledgergate read the Secret, and create the LedgerGate `app`."""
        self.grant(database)
        self.gate(**spec)
        self.label(admission="enabled")
        until("the gate's first status", lambda: self.status().get("state"))

    def label(self, **values: str) -> None:
        """Set labels of the namespace; `admission` stands for `ledgergate.dev/admission`."""
        labels = {f"ledgergate.dev/{name}": value for name, value in values.items()}
        self.plane.api.merge(f"/api/v1/namespaces/{self.namespace}", {"metadata": {"labels": labels}})

    def grant(self, database: str) -> None:
        """Write the Secret `pg`, and let ledgergate read it."""
        self.secret(database)
        for each in yaml.safe_load_all(role(self.plane)):
            self._apply(each)

    def secret(self, database: str) -> None:
        """Write the Secret `pg`."""
        self._apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pg"}, "stringData": {"url": database}})

    def gate(self, name: str = "app", **spec: Any) -> None:
        """Write a LedgerGate that selects the pods with the label `guarded`."""
        self._apply(gate_manifest(name, **spec))

    def objects(self, version: str, collection: str, **selectors: str) -> list[dict[str, Any]]:
        """Return the namespace's objects of a kind, such as ("apps/v1", "replicasets"), that match selectors."""
        base = "apis" if "/" in version else "api"
        path = f"/{base}/{version}/namespaces/{self.namespace}/{collection}"
        found: list[dict[str, Any]] = self.plane.api.get(path, **selectors)["items"]
        return found

    def status(self, name: str = "app") -> dict[str, Any]:
        """Return the status of a LedgerGate."""
        path = f"/apis/ledgergate.dev/v1alpha1/namespaces/{self.namespace}/ledgergates/{name}"
        found: dict[str, Any] = self.plane.api.get(path).get("status", {})
        return found

    def deploy(
        self,
        name: str,
        revision: str | None,
        *,
        replicas: int = 3,
        annotations: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        init: bool = False,
        image: str = "app",
        **spec: Any,
    ) -> None:
        """Apply a Deployment whose pods expect a revision; `spec` has further fields of the pods' spec."""
        declared = {} if revision is None else {REVISION: revision}
        spec = {"containers": [{"name": "main", "image": image}], **spec}
        if init:
            spec["initContainers"] = [{"name": "migrate", "image": "app"}]
        self._apply(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": {"app": name}},
                    "template": {
                        "metadata": {
                            "labels": {"app": name, **({"guarded": "true"} if labels is None else labels)},
                            "annotations": {**declared, **(annotations or {})},
                        },
                        "spec": spec,
                    },
                },
            }
        )

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Return the pods with the label `app=NAME` that are not terminating."""
        found = self.objects("v1", "pods", labelSelector=f"app={name}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def held(self, name: str) -> list[str]:
        """Return the names of the pods that have the scheduling gate."""
        return [pod["metadata"]["name"] for pod in self.pods(name) if is_held(pod)]

    def running(self, name: str) -> list[str]:
        """Return the names of the pods that run."""
        return [pod["metadata"]["name"] for pod in self.pods(name) if pod["status"]["phase"] == "Running"]

    def await_held(self, name: str, count: int = 3) -> list[str]:
        """Wait until `count` pods are held, assert that none runs, and return their names."""
        until(f"{count} held pods of {name}", lambda: len(self.held(name)) == count)
        assert self.running(name) == []
        return self.held(name)

    def await_running(self, name: str, count: int = 3, timeout: float = 120) -> list[str]:
        """Wait until `count` pods run and none is held: a rollout's last pod may be held while enough others run."""

        def all_run() -> bool:
            return len(self.running(name)) == count and not self.held(name)

        until(f"{count} running pods of {name}, and none held", all_run, timeout=timeout)
        return self.running(name)

    def try_to_ungate(self, pod: str) -> str:
        """Remove every scheduling gate of a pod as cluster-admin; return the output of kubectl."""
        patch = json.dumps([{"op": "remove", "path": "/spec/schedulingGates"}])
        return self.plane.kubectl(
            "patch", "pod", pod, "-n", self.namespace, "--type=json", "-p", patch, check=False, timeout=150
        )

    def _apply(self, manifest: dict[str, Any]) -> None:
        manifest["metadata"]["namespace"] = self.namespace
        self.plane.apply(yaml.safe_dump(manifest))


def gate_manifest(name: str = "app", **spec: Any) -> dict[str, Any]:
    """Return a LedgerGate that selects the pods with the label `guarded`, with further fields of its spec."""
    whole = {
        "selector": {"matchLabels": {"guarded": "true"}},
        "database": {"secretRef": {"name": "pg"}},
        "ledger": {"dialect": "ledgergate"},
        **spec,
    }
    if "bypass" in spec:
        whole["bypass"] = {"by": ADMINISTRATOR, **spec["bypass"]}
    kind = {"apiVersion": "ledgergate.dev/v1alpha1", "kind": "LedgerGate"}
    return {**kind, "metadata": {"name": name}, "spec": whole}


@cache
def role(plane: ControlPlane) -> str:
    """Return the Role and RoleBinding that let ledgergate read the Secret."""
    return plane.kubectl("kustomize", str(ROOT / "manifests/namespace"))


def is_held(pod: dict[str, Any]) -> bool:
    """Return whether a pod has ledgergate's scheduling gate."""
    return any(gate["name"] == GATE for gate in pod["spec"].get("schedulingGates", ()))
