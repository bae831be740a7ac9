"""The real helm, on a test control plane."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.controlplane import ControlPlane


class HelmError(Exception):
    """A command of helm failed; the message has its output."""


@dataclass(frozen=True, slots=True)
class Helm:
    """Helm with a separate home, so that repositories, plugins and settings of the developer have no effect.

    Args:
        program: the executable.
        plane: control plane on which it installs.
        home: directory of its caches and settings.
    """

    program: Path
    plane: ControlPlane
    home: Path

    def __call__(self, *args: str, kubeconfig: Path | None = None, timeout: float = 120) -> str:
        """Run a command and return its standard output.

        Args:
            args: its arguments.
            kubeconfig: the user; an administrator by default.
            timeout: seconds until it is killed.

        Raises:
            HelmError: it failed or took too long.
        """
        process = self.start(*args, kubeconfig=kubeconfig)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as late:
            process.kill()
            _, err = process.communicate()
            raise HelmError(f"helm {' '.join(args)}: not done after {timeout:g} s; {err.strip()}") from late
        if process.returncode:
            raise HelmError(f"helm {' '.join(args)}: {err.strip() or out.strip()}")
        return out

    def start(self, *args: str, kubeconfig: Path | None = None) -> subprocess.Popen[str]:
        """Start a command without waiting for its end."""
        environment = {
            "PATH": os.defpath,
            "HOME": str(self.home),
            "KUBECONFIG": str(kubeconfig or self.plane.kubeconfig),
            "HELM_CACHE_HOME": str(self.home / "cache"),
            "HELM_CONFIG_HOME": str(self.home / "config"),
            "HELM_DATA_HOME": str(self.home / "data"),
        }
        return subprocess.Popen(
            [self.program, *args], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def history(self, release: str, namespace: str) -> list[dict[str, Any]]:
        """Return the release's revisions, oldest first."""
        found: list[dict[str, Any]] = json.loads(self("history", release, "-n", namespace, "-o", "json"))
        return found


def temporary_home() -> tempfile.TemporaryDirectory[str]:
    """Create a directory for the `home` of a Helm."""
    return tempfile.TemporaryDirectory(prefix="ledgergate-helm-")
