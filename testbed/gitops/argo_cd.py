"""The real Argo CD on a test control plane: its application controller and its repository server.

There is no API server of Argo CD: Applications are written with kubectl, as its "core" installation has it
(https://argo-cd.readthedocs.io/en/stable/operator-manual/core/).
"""

import json
import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen

import yaml

from testbed.controlplane import ControlPlane
from testbed.controlplane.processes import Processes
from testbed.gitops.programs import DEFINITIONS
from testbed.gitops.repository import CHART
from testbed.ports import free_ports
from testbed.waiting import until

Object = dict[str, Any]

NAMESPACE = "argocd"
CASCADE = "resources-finalizer.argocd.argoproj.io"
"""Finalizer that `argocd app create` and `argocd app delete --cascade` set: the resources go with the Application."""
SYNC_POLICY: Object = {"automated": {"prune": True, "selfHeal": True}, "syncOptions": ["CreateNamespace=true"]}
START_TIMEOUT = 120.0
STOP_GRACE = 15.0
_GROUPS = (("controller",), ("repo-server",), ("redis",))


class ArgoCD:
    """Argo CD with an administrator's rights on the plane; it is ready when the `with` statement is entered.

    Args:
        program: what `provision_argo_cd` has built.
        helm: the helm with which it renders charts.
        plane: control plane.
    """

    def __init__(self, program: Path, helm: Path, plane: ControlPlane) -> None:
        self._program = program
        self._helm = helm
        self._plane = plane

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="ledgergate-argocd-"))
        self._processes = Processes(self._directory, self._directory)
        try:
            self._install()
            self._start()
        except BaseException:
            self._processes.stop(_GROUPS, grace=STOP_GRACE)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._processes.stop(_GROUPS, grace=STOP_GRACE)

    def application(self, name: str) -> Object:
        """Return an Application; empty if there is none."""
        get = ("get", "applications.argoproj.io", name, "-n", NAMESPACE, "--ignore-not-found", "-o", "json")
        text = self._plane.kubectl(*get)
        return dict(json.loads(text)) if text.strip() else {}

    def apply(self, name: str, repository: str, release: str, namespace: str, values: Object) -> None:
        """Write an Application of the chart.

        Args:
            name: its name.
            repository: URL of the git repository with the chart.
            release: name of helm's release.
            namespace: where to install; it is created.
            values: values of the chart.
        """
        source = {
            "repoURL": repository,
            "path": CHART,
            "targetRevision": "main",
            "helm": {"releaseName": release, "valuesObject": values},
        }
        spec = {
            "project": "default",
            "source": source,
            "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
            "syncPolicy": SYNC_POLICY,
        }
        self._write("Application", name, spec=spec, finalizers=[CASCADE])

    def await_synced(self, name: str, timeout: float = 240) -> Object:
        """Wait until the present spec of an Application is in effect, without differences, and healthy."""

        def synced() -> Object | None:
            found = self.application(name)
            status, source = found.get("status", {}), found["spec"]["source"]
            compared = status.get("sync", {})
            done = status.get("operationState", {})
            states = (compared.get("status"), status.get("health", {}).get("status"), done.get("phase"))
            sources = (compared.get("comparedTo", {}).get("source"), done.get("syncResult", {}).get("source"))
            return found if states == ("Synced", "Healthy", "Succeeded") and sources == (source, source) else None

        try:
            found = until(f"Application {name} to be synced", synced, timeout=timeout, pause=0.5)
        except AssertionError as error:
            status = self.application(name).get("status", {})
            raise AssertionError(f"{error}\n{yaml.safe_dump(_unsynced(status))}\n{self.log('controller')}") from error
        assert found is not None
        return found

    def delete(self, name: str, timeout: float = 240) -> None:
        """Delete an Application with its resources, as `argocd app delete --cascade`, and wait until it is gone."""
        self._plane.kubectl("delete", "applications.argoproj.io", name, "-n", NAMESPACE, "--wait=false")
        try:
            until(f"Application {name} to be gone", lambda: not self.application(name), timeout=timeout, pause=0.5)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log('controller')}") from error

    def log(self, name: str) -> str:
        """Return the end of the log of `controller`, `repo-server` or `redis`."""
        return self._processes.log(name).read_text()[-6000:]

    def _install(self) -> None:
        for file in sorted((self._program.parent / DEFINITIONS).glob("*.yaml")):
            self._plane.kubectl("apply", "--server-side", "-f", str(file))
        until("Argo CD's kinds", self._established, timeout=START_TIMEOUT, pause=0.5)
        self._plane.create_namespace(NAMESPACE)
        labels = {"app.kubernetes.io/part-of": "argocd"}
        for name in ("argocd-cm", "argocd-rbac-cm"):
            self._write("ConfigMap", name, version="v1", labels=labels)
        secrets = {"server.secretkey": "of-a-test", "admin.password": "of-a-test"}
        self._write("Secret", "argocd-secret", version="v1", labels=labels, stringData=secrets)
        everything = [{"group": "*", "kind": "*"}]
        anywhere = [{"namespace": "*", "server": "*"}]
        project = {"sourceRepos": ["*"], "destinations": anywhere, "clusterResourceWhitelist": everything}
        self._write("AppProject", "default", spec=project)

    def _established(self) -> bool:
        # `kubectl wait` fails where a definition has no status yet.
        found = json.loads(self._plane.kubectl("get", "crd", "-o", "json"))["items"]
        conditions = [each.get("status", {}).get("conditions") or () for each in found]
        return all(
            any(each["type"] == "Established" and each["status"] == "True" for each in some) for some in conditions
        )

    def _write(self, kind: str, name: str, *, version: str = "argoproj.io/v1alpha1", **fields: Any) -> None:
        metadata = {"name": name, "namespace": NAMESPACE}
        metadata |= {key: fields.pop(key) for key in ("labels", "finalizers") if key in fields}
        body = {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}
        self._plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(body))

    def _start(self) -> None:
        redis, repository, health, metrics = free_ports(4)
        environment = {
            "HOME": str(self._directory),
            "TMPDIR": str(self._directory),
            "PATH": f"{self._program.parent}:{self._helm.parent}:{os.environ.get('PATH', os.defpath)}",
            "KUBECONFIG": str(self._plane.kubeconfig),
            "ARGOCD_FAKE_IN_CLUSTER": "true",
            "ARGOCD_GPG_ENABLED": "false",
            **{f"ARGOCD_{name}_DATA_PATH": str(self._directory / name.lower()) for name in ("TLS", "SSH", "GPG")},
        }
        for name in ("tls", "ssh", "gpg"):
            (self._directory / name).mkdir()
        cache = f"--redis=127.0.0.1:{redis}"
        self._processes.start("redis", [self._program, "redis", f"127.0.0.1:{redis}"], environment)
        self._wait("redis", lambda: _listens(redis))
        ports = (
            "--address=127.0.0.1",
            f"--port={repository}",
            "--metrics-address=127.0.0.1",
            f"--metrics-port={health}",
        )
        plain = ("--disable-tls", "--client-ca-path=")
        self._processes.start("repo-server", [self._program, "repo-server", cache, *ports, *plain], environment)
        self._wait("repo-server", lambda: _healthy(health))
        server = (f"--repo-server=127.0.0.1:{repository}", "--repo-server-plaintext", f"--metrics-port={metrics}")
        at = (f"--kubeconfig={self._plane.kubeconfig}", f"--namespace={NAMESPACE}")
        self._processes.start("controller", [self._program, "controller", cache, *server, *at], environment)
        self._wait("controller", lambda: _healthy(metrics))

    def _wait(self, name: str, ready: Any) -> None:
        self._processes.wait(f"Argo CD's {name}", ready, culprit=name, timeout=START_TIMEOUT)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _healthy(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _unsynced(status: Object) -> Object:
    """Return the parts of an Application's status that say why it is not synced."""
    resources = [each for each in status.get("resources", ()) if each.get("status") != "Synced"]
    state = status.get("operationState", {})
    return {
        "conditions": status.get("conditions"),
        "sync": status.get("sync", {}).get("status"),
        "health": status.get("health"),
        "phase": state.get("phase"),
        "message": state.get("message"),
        "resources": resources,
    }
