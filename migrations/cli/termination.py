"""The container's termination message, which `kubectl describe pod` and the pod's status show.

Source: https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PATH = "/dev/termination-log"
_IN_A_POD = "KUBERNETES_SERVICE_HOST"
_PATH = "LEDGERGATE_TERMINATION_LOG"
_MAX_BYTES = 4096  # the kubelet cuts what is longer


def write_termination_log(environment: Mapping[str, str], command: str, code: int, summary: str) -> None:
    """Write one line to the termination log, if this process runs in a pod that has such a file.

    Args:
        environment: The process's environment.
        command: Which command ended.
        code: Its exit code.
        summary: The outcome in one line; when it is empty, as for a command that only prints, nothing is written.
    """
    path = Path(environment.get(_PATH) or DEFAULT_PATH)
    if not summary or not environment.get(_IN_A_POD) or not path.is_file():
        return
    text = f"ledgergate {command}{f' (exit {code})' if code else ''}: {summary}\n"
    with suppress(OSError):  # a message that cannot be written must not change the exit code
        path.write_bytes(text.encode()[:_MAX_BYTES])
