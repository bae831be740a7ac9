"""Leaves a line where Kubernetes shows how a container ended: in `kubectl describe pod` and in the pod's status.

Source: https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT = "/dev/termination-log"
_IN_A_POD = "KUBERNETES_SERVICE_HOST"
_PLACE = "LEDGERGATE_TERMINATION_LOG"
_LONGEST = 4096  # bytes; the kubelet cuts what is longer


def write_termination_log(environment: Mapping[str, str], command: str, code: int, summary: str) -> None:
    """Write one line to the termination log, where we run in a pod and there is such a file that we may write.

    Args:
        environment: The process's environment.
        command: Which command ended.
        code: Its exit code.
        summary: What it said, in one line; without one, as of a command that only shows, nothing is left.
    """
    path = Path(environment.get(_PLACE) or DEFAULT)
    if not summary or not environment.get(_IN_A_POD) or not path.is_file():
        return
    text = f"ledgergate {command}{f' (exit {code})' if code else ''}: {summary}\n"
    with suppress(OSError):  # the exit code says enough
        path.write_bytes(text.encode()[:_LONGEST])
