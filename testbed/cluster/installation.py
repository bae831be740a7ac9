"""ledgergate installed on a test control plane from its manifests, with webhook and controller as local processes.

They run with the service accounts, and so with the rights, that they have inside a cluster. The Deployments and
what belongs to them are not applied, since no kubelet could run their image.
"""

import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import yaml

from testbed.controlplane import ControlPlane
from testbed.controlplane.processes import Processes
from testbed.ports import free_ports
from testbed.waiting import until

ROOT = Path(__file__).parents[2]
LEDGERGATE = Path(sys.executable).with_name("ledgergate")
START_TIMEOUT = 60.0
STOP_GRACE = 15.0
LEFT_OUT = {"Deployment", "PodDisruptionBudget", "Service"}


class Installation:
    """One installation on a plane.

    Args:
        plane: control plane.

    Attributes:
        with_policy: Whether the admission policy is installed, as it is where the cluster has its kind (since 1.36).
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.with_policy = plane.has_policy
        self._manifests = "manifests/base" if self.with_policy else "manifests/overlays/before-1.36"
        self.webhook_port, self._webhook_metrics, self._controller_metrics = free_ports(3)
        self._webhook_url = f"https://127.0.0.1:{self.webhook_port}"
        self.controller_flags: tuple[str, ...] = ()
        """Further flags of the controllers that are started from now on."""
        self.environments: dict[str, dict[str, str]] = {}
        """Further environment variables, by `webhook` or `controller`, of what is started from now on."""

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="ledgergate-installation-"))
        self.logs = self._directory
        self._processes = Processes(self._directory, self._directory)
        try:
            self._apply()
            self.start_controller()
            self.start_webhook()
        except BaseException:
            self._processes.stop((("webhook",), ("controller",)), grace=STOP_GRACE)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Policy and webhook configurations are deleted first, so that no pod is held after the processes have ended.
        self._plane.kubectl(
            "delete", "--ignore-not-found", "-f", "-", stdin=self._documents(("Policy", "Configuration"))
        )
        self._processes.stop((("webhook",), ("controller",)), grace=STOP_GRACE)

    def start_webhook(self) -> None:
        """Start the webhook and wait until it is ready."""
        self._start(
            "webhook",
            "--bind",
            f"127.0.0.1:{self.webhook_port}",
            "--metrics-bind",
            f"127.0.0.1:{self._webhook_metrics}",
            "--drain",
            "0",
        )
        self._processes.wait("webhook ready", self._webhook_ready, culprit="webhook", timeout=START_TIMEOUT)

    def start_controller(self) -> None:
        """Start the controller, without waiting until it leads."""
        self._start("controller", "--metrics-bind", f"127.0.0.1:{self._controller_metrics}", *self.controller_flags)

    def kill(self, name: str) -> None:
        """Kill `webhook` or `controller` by SIGKILL."""
        self._processes.kill(name)

    def pid(self, name: str) -> int:
        """Return the process id of `webhook` or `controller`."""
        return self._processes.pid(name)

    @property
    def webhook_ports(self) -> set[int]:
        """The ports on which the webhook listens."""
        return {self.webhook_port, self._webhook_metrics}

    def ensure(self) -> None:
        """Start the processes that a test has killed."""
        if not self._processes.running("controller"):
            self.start_controller()
        if not self._processes.running("webhook"):
            self.start_webhook()

    def log(self, name: str) -> str:
        """Return the log of a process."""
        return self._processes.log(name).read_text()

    def metrics(self, name: str) -> str:
        """Return the metrics of a process in Prometheus' text format, as soon as it listens."""
        port = self._webhook_metrics if name == "webhook" else self._controller_metrics

        def read() -> str:
            try:
                with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    text: bytes = answer.read()
            except URLError as error:
                if isinstance(error.reason, ConnectionRefusedError):
                    return ""
                raise
            return text.decode()

        return until(f"the metrics of the {name}", read)

    def _start(self, name: str, *arguments: str) -> None:
        kubeconfig = self._plane.kubeconfig_for("ledgergate", name)
        shared = ("--kubeconfig", str(kubeconfig), "--namespace", "ledgergate", "--webhook-url", self._webhook_url)
        self._processes.start(name, [LEDGERGATE, name, *shared, *arguments], self.environments.get(name))

    def _webhook_ready(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self._webhook_metrics}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, HTTPError, OSError):
            return False

    def _documents(self, endings: tuple[str, ...] = ("",)) -> str:
        rendered = self._plane.kubectl("kustomize", str(ROOT / self._manifests))
        documents = [found for found in yaml.safe_load_all(rendered) if found["kind"] not in LEFT_OUT]
        for found in documents:
            # The URL is set here: the policy that confines the controller lets it write caBundle and nothing else.
            for hook in found.get("webhooks", ()):
                hook["clientConfig"] = {"url": f"{self._webhook_url}{hook['clientConfig']['service']['path']}"}
        wanted = [
            found for found in documents if found["kind"].endswith((*endings, *(f"{end}Binding" for end in endings)))
        ]
        return yaml.safe_dump_all(wanted)

    def _apply(self) -> None:
        self._plane.apply(self._documents(("Definition", "Namespace")))
        self._plane.await_gate_kind()
        self._plane.apply(self._documents())
