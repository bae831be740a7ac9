"""ledgergate as helm installs it; its pods run as processes of this machine, behind its Service."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.cluster.helm import Helm
from testbed.cluster.pod_processes import PodProcesses
from testbed.cluster.service_proxy import ServiceProxy
from testbed.controlplane import ControlPlane
from testbed.waiting import until

CHART = str(Path(__file__).parents[2] / "manifests/chart")
SMALL = ("--set", "webhook.replicas=2,controller.replicas=2", "--set", "images.registries={registry.invalid}")
"""Few processes, which ask no registry: the images of the tests are directories."""
PARTS = ("webhook", "controller")
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
CONFIGURATIONS = ("mutatingwebhookconfigurations/ledgergate", "validatingwebhookconfigurations/ledgergate")
START_TIMEOUT = 60.0


class Guard:
    """A release of the chart and the processes of its pods.

    Args:
        helm: helm on the plane.
        plane: control plane.
        release: name of the release.
        namespace: namespace of the release.

    Attributes:
        pods: the processes of its pods.
    """

    def __init__(self, helm: Helm, plane: ControlPlane, release: str, namespace: str) -> None:
        self.helm = helm
        self.plane = plane
        self.release = release
        self.namespace = namespace
        self.pods = PodProcesses(plane, namespace)
        self._at = (release, "-n", namespace)
        self._service = ExitStack()

    def __enter__(self) -> Self:
        self.pods.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._service.close()
        self.pods.__exit__(kind, error, at)

    def ensure(self) -> None:
        """Install it unless it is installed."""
        if not self.helm("list", "-n", self.namespace, "-q"):
            self.install(*SMALL)
            self.serve()

    def install(self, *flags: str) -> None:
        """Install the chart; `serve` makes its Service reachable."""
        self.helm("install", *self._at, CHART, *flags)

    def upgrade(self, *flags: str) -> None:
        """Upgrade with further values, keeping the present ones."""
        self.helm(*self._upgrade(*flags))

    def start_upgrade(self, *flags: str) -> subprocess.Popen[str]:
        """Start an upgrade with an empty `databases`, as namespaces of earlier tests may not exist any more."""
        return self.helm.start(*self._upgrade("--set-json", "databases=[]", *flags))

    def grant(self, namespace: str) -> None:
        """Let ledgergate read the Secret `pg` of one namespace only, by the chart's value `databases`."""
        self.upgrade("--set-json", f"databases={json.dumps([{'namespace': namespace, 'secrets': ['pg']}])}")

    def roll_back(self, revision: int) -> None:
        """Roll back to an earlier revision of the release."""
        self.helm("rollback", self.release, str(revision), "-n", self.namespace)

    def history(self) -> list[dict[str, Any]]:
        """Return the release's revisions, oldest first."""
        return self.helm.history(self.release, self.namespace)

    def uninstall(self, *flags: str) -> None:
        """Uninstall the release."""
        self.helm("uninstall", *self._at, *flags)

    def serve(self, *parts: str) -> None:
        """Start the Service's proxy and wait until webhook and controller, or only some parts, are ready."""
        self._service.close()
        self._service.enter_context(ServiceProxy(self.pods, self.get("service/ledgergate-webhook")))
        self.await_ready(*parts)

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Close the Service for a while, as a firewall would."""
        self._service.close()
        try:
            yield
        finally:
            self.serve()

    def get(self, what: str) -> dict[str, Any]:
        """Return an object of the release's namespace or of the cluster."""
        found: dict[str, Any] = json.loads(self.plane.kubectl("get", what, "-n", self.namespace, "-o", "json"))
        return found

    def await_ready(self, *parts: str) -> None:
        """Wait until the rollouts are over, every process (of some parts) is ready, and the webhook is trusted."""
        rollout = ("rollout", "status", "deployment/ledgergate-webhook", "-n", self.namespace)
        self.plane.kubectl(*rollout, f"--timeout={START_TIMEOUT:g}s", timeout=START_TIMEOUT + 10)
        try:
            until("ready processes", lambda: self._ready(parts or PARTS), timeout=START_TIMEOUT)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.pods.logs()}") from error
        until("a caBundle in each webhook", lambda: all(self.bundles()))

    def bundles(self) -> list[str]:
        """Return the caBundle of every webhook, empty where it has none."""
        hooks = [hook for name in CONFIGURATIONS for hook in self.plane.api.get(f"{ADMISSION}/{name}")["webhooks"]]
        return [hook["clientConfig"].get("caBundle", "") for hook in hooks]

    def _upgrade(self, *flags: str) -> tuple[str, ...]:
        return ("upgrade", *self._at, CHART, "--reset-then-reuse-values", *flags)

    def _ready(self, parts: Sequence[str]) -> bool:
        return all(
            len(running := self.pods.running(name)) == self._replicas(name) and all(each.ready() for each in running)
            for name in parts
        )

    def _replicas(self, part: str) -> int:
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/ledgergate-{part}"
        return int(self.plane.api.get(path)["spec"]["replicas"])
