"""A real Kubernetes control plane for one test run: `with ControlPlane(provision()) as plane:`."""

import datetime as dt
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.controlplane.api import Api
from testbed.controlplane.certificates import Authority, signing_keys
from testbed.controlplane.commands import Layout, commands
from testbed.controlplane.kubeconfig import Cluster
from testbed.controlplane.processes import ControlPlaneError, PortTakenError, Processes
from testbed.ports import free_ports
from testbed.waiting import until

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ATTEMPTS = 3
START_TIMEOUT = 120.0
STOP_GRACE = 5.0
# Clients first, so that the API server has no open requests to wait for.
STOP_ORDER = (("kwok", "kube-scheduler", "kube-controller-manager"), ("kube-apiserver",), ("etcd",))
TOKEN_SECONDS = 24 * 3600


class ControlPlane:
    """etcd, API server, controller manager, scheduler, and kwok as the kubelet of every node.

    Several planes run side by side; each has its ports and its directory, and leaves nothing behind,
    even when the process that started it is killed.

    Args:
        programs: Directory of the executables, from `provision()`.
        nodes: Names of its first nodes.
        api_flags: Further flags of the API server.

    Attributes:
        server: `https://127.0.0.1:PORT`, the same after a restart of the API server.
        kubeconfig: For an administrator (client certificate, group `system:masters`).
        api: HTTP client of the administrator, faster than kubectl.
        ca: The CA certificate of the API server, PEM.
        logs: Directory of one log file per program.
    """

    server: str
    kubeconfig: Path
    api: Api
    ca: Path
    logs: Path

    def __init__(self, programs: Path, *, nodes: Sequence[str] = ("node-0",), api_flags: Sequence[str] = ()) -> None:
        self._programs = programs
        self._api_flags = tuple(api_flags)
        self._nodes = nodes
        self._processes: Processes | None = None
        self._connections = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until pods can be created and run.

        Raises:
            ControlPlaneError: A program failed; the message ends with its log.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._start()
            except PortTakenError:
                self.stop()
                if attempt == ATTEMPTS:
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                return

    def stop(self) -> None:
        """End every process and remove the directory; stopping twice is no error."""
        processes, self._processes = self._processes, None
        self._connections.close()
        if processes is not None:
            processes.stop(STOP_ORDER, grace=STOP_GRACE)

    def kubectl(
        self,
        *args: str,
        stdin: str | None = None,
        check: bool = True,
        kubeconfig: Path | None = None,
        timeout: float = 180,
    ) -> str:
        """Run kubectl and return its standard output.

        Args:
            args: Its arguments.
            stdin: Text for `-f -`.
            check: Raise when it fails; without, return standard output and standard error together.
            kubeconfig: The user; an administrator by default.
            timeout: Seconds until it is killed.

        Raises:
            ControlPlaneError: It failed or took too long; the message has its output.
        """
        # Another HOME, so that the developer's ~/.kube (kuberc, discovery cache) has no effect.
        environment = {"PATH": os.defpath, "HOME": str(self._layout.directory)}
        command: list[str | Path] = [self._programs / "kubectl", f"--kubeconfig={kubeconfig or self.kubeconfig}", *args]
        try:
            done = subprocess.run(
                command, input=stdin, env=environment, check=False, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired as late:
            raise ControlPlaneError(f"kubectl {' '.join(args)}: not done after {timeout:g} s") from late
        if not check:
            return done.stdout + done.stderr
        if done.returncode != 0:
            raise ControlPlaneError(f"kubectl {' '.join(args)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    @property
    def api_port(self) -> int:
        """The API server's port."""
        return self._layout.api_port

    @property
    def has_policy(self) -> bool:
        """Whether the API server has MutatingAdmissionPolicy (v1, since 1.36), and so can hold pods by itself."""
        served = self.api.get("/apis/admissionregistration.k8s.io/v1")["resources"]
        return any(each["name"] == "mutatingadmissionpolicies" for each in served)

    def apply(self, manifest: str) -> None:
        """Apply YAML, server-side."""
        self.api.apply(manifest)

    def create_namespace(self, name: str) -> None:
        """Create a namespace, and wait until pods can be created in it."""
        self.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        self._await_account(name)

    def kubeconfig_for(self, namespace: str, service_account: str) -> Path:
        """Write a kubeconfig of an existing service account, by TokenRequest; valid for a day.

        With it the webhook and the controller run outside the cluster with the rights they have inside.
        """
        account = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        made = self.api.create(f"{account}/token", {**asked, "spec": {"expirationSeconds": TOKEN_SECONDS}})
        path = self._layout.file(f"{namespace}.{service_account}.kubeconfig")
        return Cluster(self.server, self.ca).write_for_token(path, made["status"]["token"], namespace)

    def add_node(self, name: str) -> None:
        """Add a node with ample capacity and wait until it is Ready."""
        manifest = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {
                    "type": "kwok",
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                },
            },
        }
        self.apply(json.dumps(manifest))
        self.await_condition(f"/api/v1/nodes/{name}", "Ready")

    def await_condition(self, path: str, condition: str) -> None:
        """Wait until a condition of an object is True, as `kubectl wait` does."""
        until(
            f"{condition} of {path}",
            lambda: any(
                each["type"] == condition and each["status"] == "True"
                for each in self.api.get(path).get("status", {}).get("conditions") or ()  # a new CRD has null
            ),
        )

    def await_gate_kind(self) -> None:
        """Wait until the API server has accepted the CRD of LedgerGates."""
        self.await_condition(f"{CRDS}/ledgergates.ledgergate.dev", "Established")

    def kill_apiserver(self) -> None:
        """End the API server by SIGKILL; etcd and its data stay."""
        self._alive.kill("kube-apiserver")

    def start_apiserver(self) -> None:
        """Start the API server on its old port with its old data and wait until it is ready."""
        self._alive.start("kube-apiserver", commands(self._layout)["kube-apiserver"])
        self._alive.wait("API server ready", self._ready, culprit="kube-apiserver", timeout=START_TIMEOUT)

    def pause_apiserver(self) -> None:
        """Suspend the API server (SIGSTOP): its connections stay open and it answers nothing."""
        self._alive.signal("kube-apiserver", signal.SIGSTOP)

    def resume_apiserver(self) -> None:
        """Resume a paused API server."""
        self._alive.signal("kube-apiserver", signal.SIGCONT)

    @property
    def programs(self) -> Path:
        """Directory of the executables."""
        return self._programs

    @property
    def _alive(self) -> Processes:
        if self._processes is None:
            raise ControlPlaneError("the control plane does not run: it was not started, or was stopped")
        return self._processes

    def _start(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="ledgergate-plane-"))
        self.logs = directory / "logs"
        self.logs.mkdir()
        self._processes = Processes(directory, self.logs)
        etcd_port, peer_port, api_port = free_ports(3)
        self._layout = Layout(self._programs, directory, etcd_port, peer_port, api_port, self._api_flags)
        programs = commands(self._layout)
        self._processes.start("etcd", programs["etcd"])
        self._write_credentials()
        self._processes.wait("etcd listening", self._etcd_listens, culprit="etcd", timeout=START_TIMEOUT)
        self.start_apiserver()
        for name in ("kube-controller-manager", "kube-scheduler", "kwok"):
            self._processes.start(name, programs[name])
        for node in self._nodes:
            self.add_node(node)
        self._await_account("default")

    def _await_account(self, namespace: str) -> None:
        """Wait for a namespace's default service account, without which admission refuses every pod."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        until(
            f"the service account of {namespace}",
            lambda: any(each["metadata"]["name"] == "default" for each in self.api.get(path)["items"]),
        )

    def _write_credentials(self) -> None:
        at = self._layout
        authority = Authority(dt.datetime.now(dt.UTC))
        serving = authority.server(["kubernetes.default.svc", "kubernetes", "localhost"], ["127.0.0.1", "127.96.0.1"])
        private, public = signing_keys()
        files = {
            "ca.crt": authority.pem,
            "apiserver.crt": serving.certificate,
            "apiserver.key": serving.key,
            "service-accounts.key": private,
            "service-accounts.pub": public,
        }
        for name, content in files.items():
            at.file(name).write_bytes(content)
        self.server = at.server
        self.ca = at.file("ca.crt")
        cluster = Cluster(self.server, self.ca)
        administrator = authority.client("test-admin", "system:masters")
        self.kubeconfig = cluster.write_for_certificate(at.file("admin.kubeconfig"), administrator)
        for name in ("kube-controller-manager", "kube-scheduler"):
            cluster.write_for_certificate(at.file(f"{name}.kubeconfig"), authority.client(f"system:{name}"))
        self._tls = ssl.create_default_context(cafile=str(self.ca))
        self._tls.load_cert_chain(self.kubeconfig.with_suffix(".pem"))
        self.api = self._connections.enter_context(closing(Api(at.api_port, self._tls)))

    def _etcd_listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._layout.etcd_port)) == 0

    def _ready(self) -> bool:
        connection = http.client.HTTPSConnection("127.0.0.1", self._layout.api_port, timeout=2, context=self._tls)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
