"""Pods are created all the time, while webhooks are replaced or dead, and while the API server restarts.

`LEDGERGATE_STORM=60` makes each last a minute, at 50 pods a second.
"""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from testbed.cluster.application import Application
from testbed.cluster.balancer import Balancer
from testbed.cluster.control_webhook import control_webhook
from testbed.cluster.installation import LEDGERGATE, Installation
from testbed.cluster.pod_storm import SECONDS, FailedCalls, PodStorm
from testbed.controlplane import ControlPlane
from testbed.controlplane.processes import Processes
from testbed.ports import free_ports
from testbed.waiting import until

log = logging.getLogger(__name__)
pytestmark = pytest.mark.timeout(900 + 10 * SECONDS)

REPLICAS = 3
DRAIN = 5.0
"""Seconds that a replica goes on answering after SIGTERM; it has left the balancer by then. It is half of the default.

A connection on which no request has come meanwhile is closed at the end, and a request that is written just then is
lost: where the machine stands still for a second, a second is too short."""
RESTARTS = 5 if SECONDS >= 30 else 1


class Replicas:
    """Webhooks behind a balancer at the installation's address."""

    def __init__(self, plane: ControlPlane, installation: Installation, processes: Processes) -> None:
        self._kubeconfig = plane.kubeconfig_for("ledgergate", "webhook")
        self._url = f"https://127.0.0.1:{installation.webhook_port}"
        self._processes = processes
        self.balancer = Balancer()
        self.present: list[tuple[str, int]] = []
        self._number = 0

    def add(self) -> None:
        """Start a replica, wait until it is ready, and add it."""
        (port, metrics), self._number = free_ports(2), self._number + 1
        name = f"replica-{self._number}"
        flags = ("--kubeconfig", self._kubeconfig, "--namespace", "ledgergate", "--webhook-url", self._url)
        where = ("--bind", f"127.0.0.1:{port}", "--metrics-bind", f"127.0.0.1:{metrics}", "--drain", f"{DRAIN:g}")
        self._processes.start(name, [LEDGERGATE, "webhook", *flags, *where])
        until("a ready replica", lambda: _answers(metrics))
        self.present.append((name, port))
        self._publish()

    def remove(self) -> None:
        """Remove the oldest replica as a rollout does: it gets SIGTERM, and leaves the balancer while it drains."""
        name, _ = self.present.pop(0)
        self._processes.signal(name, signal.SIGTERM)
        self._publish()
        process = self._processes._running.pop(name)
        assert process.wait(DRAIN + 20) == 0

    def _publish(self) -> None:
        self.balancer.ports = tuple(port for _, port in self.present)


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


@contextmanager
def replicas(plane: ControlPlane, installation: Installation, directory: Path) -> Iterator[Replicas]:
    processes = Processes(directory, directory)
    found = Replicas(plane, installation, processes)
    try:
        for _ in range(REPLICAS):
            found.add()
        installation.kill("webhook")
        with found.balancer.serving(installation.webhook_port):
            yield found
    finally:
        processes.stop([[name for name, _ in found.present]], grace=DRAIN + 10)
        installation.ensure()


def test_a_rolling_restart_fails_no_call(
    behind: Application, installation: Installation, plane: ControlPlane, tmp_path: Path
) -> None:
    """Three replicas behind a balancer are replaced one by one: each pod is judged at its creation, no call fails."""
    (logs := tmp_path / "replicas").mkdir()
    with (
        replicas(plane, installation, logs) as found,
        control_webhook(plane, behind.namespace, balanced=True) as control,
    ):
        failed, storm = FailedCalls(plane, control), PodStorm(behind)
        end, replaced = time.monotonic() + SECONDS, 0
        with storm.running():
            while time.monotonic() < end or replaced < REPLICAS:
                found.add()
                found.remove()
                replaced += 1
        failures = failed.causes(storm)
    log.warning("%d pods, %.0f/s, %d replaced, slowest %.2f s", storm.made, storm.rate, replaced, storm.slowest)
    assert failures == []
    assert storm.wrong == []


def settled(storm: PodStorm) -> float:
    """Return the seconds until every good pod is free, at most 30."""
    began = time.monotonic()
    until("the good pods to be free", lambda: not storm.late(), pause=0.02)
    return time.monotonic() - began


def test_dead_webhooks_refuse_and_open_nothing(behind: Application, installation: Installation) -> None:
    """With every webhook dead each pod is created, held; the controller releases the good ones, and no other."""
    storm = PodStorm(behind, judged=False)
    installation.kill("webhook")
    with storm.running():
        time.sleep(SECONDS)  # the length of the outage
    seconds = settled(storm)
    log.warning("%d pods, %.0f/s; the last good one free after %.2f s", storm.made, storm.rate, seconds)
    assert storm.wrong == []
    installation.start_webhook()


def _is_the_api_servers(text: str) -> bool:
    """Return whether a failure comes from an API server that ends or starts, not from admission."""
    return "webhook" not in text and "denied" not in text and "polic" not in text


def test_restarts_of_the_api_server_refuse_and_open_nothing(behind: Application, plane: ControlPlane) -> None:
    """It is killed and started, five times in a long storm: every pod that must wait is held."""
    storm = PodStorm(behind, excused=_is_the_api_servers, judged=False)
    pause = SECONDS / RESTARTS / 2
    with storm.running():
        for _ in range(RESTARTS):
            time.sleep(pause)  # so that there is something between two restarts
            plane.kill_apiserver()
            plane.start_apiserver()
        made = storm.made
        until("pods after the last restart", lambda: storm.made > made + 5)
    seconds = settled(storm)
    log.warning(
        "%d pods, %.0f/s, %d failed; the last good one free after %.2f s", storm.made, storm.rate, storm.failed, seconds
    )
    assert storm.wrong == []
