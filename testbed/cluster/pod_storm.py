"""Pods created at a rate through the API server, a good one and a bad one in turn, and what is wrong with them."""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from testbed.cluster.application import FIRST, SECOND, Application, is_held
from testbed.cluster.control_webhook import Control
from testbed.controlplane import ControlPlane, ControlPlaneError

log = logging.getLogger(__name__)

SECONDS = float(os.environ.get("LEDGERGATE_STORM", "6"))
"""Seconds that each storm lasts; `make storm` sets 60."""
RATE = 50.0 if SECONDS >= 30 else 20.0
"""Pods a second."""
THREADS = 4
BAD = SECOND
"""The revision that the ledger lacks; it has `FIRST`."""

PROMPT = 1.0
"""Seconds: a webhook's timeout. A creation that takes longer may have had a failed call, which `FailedCalls` finds."""
CALLS = re.compile(
    r"""^apiserver_admission_webhook_(?:fail_open_count\{|rejection_count\{[^}]*calling_webhook_error)
    [^}]*ledgergate\.dev[^}]*\}\ (\S+)""",
    re.MULTILINE | re.VERBOSE,
)
FAILED = re.compile(r"^W.*Failed calling webhook.*ledgergate.*$", re.MULTILINE)
LATE = "deadline exceeded"


@dataclass
class PodStorm:
    """Creates pods of which every other one must stay held.

    Args:
        application: its ledger has been read, and has only the first revision.
        excused: returns whether the injected fault explains a failed creation, by the error's text.
        judged: whether a good pod must be created without the gate; otherwise the controller may release it later.

    Attributes:
        wrong: what went wrong, a line each.
        made: number of pods that were created.
        failed: number of creations that failed.
        slowest: seconds of the slowest creation.
    """

    application: Application
    excused: Callable[[str], bool] = lambda _: False
    judged: bool = True
    wrong: list[str] = field(default_factory=list)
    made: int = 0
    failed: int = 0
    seconds: float = 0.0
    slowest: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Create pods until the block ends."""
        stop, began = threading.Event(), time.monotonic()

        def work(share: int) -> None:
            number = share
            while not stop.is_set():
                self._create(number)
                number += THREADS
                stop.wait(max(0.0, began + number / RATE - time.monotonic()))

        threads = [threading.Thread(target=work, args=(share,)) for share in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            self.seconds = time.monotonic() - began

    @property
    def rate(self) -> float:
        """Pods a second that were created."""
        return self.made / self.seconds

    def _create(self, number: int) -> None:
        # `THREADS` of a kind in turn, so that each thread creates good and bad ones alternately.
        revision = (FIRST, BAD)[number // THREADS % 2]
        pod: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"pod-{number}",
                "labels": {"guarded": "true", "app": "storm"},
                "annotations": {"ledgergate.dev/revision": revision},
            },
            "spec": {"containers": [{"name": "app", "image": "app"}], "terminationGracePeriodSeconds": 0},
        }
        began = time.monotonic()
        try:
            made = self.application.plane.api.create(f"/api/v1/namespaces/{self.application.namespace}/pods", pod)
        except ControlPlaneError as error:
            self.failed += 1
            if not self.excused(str(error)):
                self.wrong.append(str(error))
            return
        took = time.monotonic() - began
        self.slowest = max(self.slowest, took)
        self.made += 1
        held = is_held(made)
        if (revision == BAD and not held) or (revision == FIRST and held and self.judged and took < PROMPT):
            self.wrong.append(f"pod-{number} expects {revision}, held: {held}")

    def late(self) -> list[str]:
        """Return the good pods that are held now; add the bad ones that are not held to `wrong`."""
        late = []
        for pod in self.application.pods("storm"):
            held = is_held(pod)
            good = pod["metadata"]["annotations"]["ledgergate.dev/revision"] == FIRST
            if good and held:
                late.append(pod["metadata"]["name"])
            elif not good and not held:
                self.wrong.append(f"{pod['metadata']['name']} is free")
        return late


class FailedCalls:
    """The failed calls of ledgergate's webhooks since this object was created, as the API server counts and logs them.

    Args:
        control: a webhook that is called for the same pods.
    """

    def __init__(self, plane: ControlPlane, control: Control) -> None:
        self._plane = plane
        self._control = control
        self._count, self._logged = self._now(), len(self._log())

    def causes(self, storm: PodStorm) -> list[str]:
        """Return why calls failed during a storm, without the late ones if calls of the control were slow too."""
        causes: list[str] = FAILED.findall(self._log()[self._logged :])
        count = self._now() - self._count
        if len(causes) < count:
            causes.append(f"{count:g} calls have failed, of which the log has {len(causes)}")
        control = self._control.calls
        assert control.made, "the control was not called"
        text = "%g calls failed; of %d of the control %d were slow; a creation took %.2f s: %s"
        log.warning(text, count, control.made, control.slow, storm.slowest, "\n".join(causes[-5:]))
        return [cause for cause in causes if not (control.slow and LATE in cause)]

    def _now(self) -> float:
        return sum(map(float, CALLS.findall(self._plane.kubectl("get", "--raw", "/metrics"))))

    def _log(self) -> str:
        return (self._plane.logs / "kube-apiserver.log").read_text(errors="replace")
