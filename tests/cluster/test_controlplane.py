"""A control plane leaves no process and no directory behind, and a failed start is repeated or explained."""

import os
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from testbed.controlplane import ControlPlane, ControlPlaneError
from testbed.controlplane import plane as plane_module
from testbed.ports import free_ports
from testbed.waiting import until

CHECKOUT = Path(__file__).parents[2]


def processes_of(directory: Path) -> list[int]:
    """Return the ids of all processes whose command line has a plane's directory."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if str(directory) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def test_api_and_kubectl_are_one_user(plane: ControlPlane, namespace: str) -> None:
    """Server-side apply by `plane.api` and by kubectl do not conflict; an error has the server's message."""
    manifest = "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: shared, namespace: {}}}, data: {{key: {}}}}}"
    plane.api.apply(manifest.format(namespace, "one"))
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=manifest.format(namespace, "two"))
    plane.api.apply(manifest.format(namespace, "three"))
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    assert plane.api.get(f"{maps}/shared")["data"] == {"key": "three"}
    with pytest.raises(ControlPlaneError, match='404, configmaps "missing" not found'):
        plane.api.get(f"{maps}/missing")


def test_planes_side_by_side_leave_nothing(programs: Path, plane: ControlPlane) -> None:
    """A second plane is independent of the first; once stopped, it has no process and no directory left."""
    with ControlPlane(programs, nodes=("other",)) as second:
        assert second.kubectl("get", "nodes", "-o", "name") == "node/other\n"
        assert plane.kubectl("get", "node", "other", "--ignore-not-found") == ""
        directory = second.logs.parent
        assert len(processes_of(directory)) > 5
    assert processes_of(directory) == []
    assert not directory.exists()


def test_killed_run_leaves_nothing(programs: Path) -> None:
    """`python -m testbed.controlplane start` prints how to reach its plane; SIGKILL leaves nothing of the plane."""
    command = [sys.executable, "-m", "testbed.controlplane", "start"]
    environment = os.environ | {"KUBEBUILDER_ASSETS": str(programs)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, env=environment) as run:
        assert run.stdout is not None
        printed = run.stdout.readline()
        assert printed.startswith("export KUBECONFIG=")
        directory = Path(printed.split()[1].removeprefix("KUBECONFIG=")).parent
        assert len(processes_of(directory)) > 5
        run.kill()
    until("nothing left", lambda: not processes_of(directory) and not directory.exists())


class SecondStartError(Exception):
    """Raised in place of a second start."""


def test_a_taken_port_costs_another_start(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process has taken a port after it was chosen, the plane starts again with other ports."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        choices = iter([[other.getsockname()[1], *free_ports(2)]])

        def choose(_: int) -> list[int]:
            for ports in choices:
                return ports
            raise SecondStartError

        monkeypatch.setattr(plane_module, "free_ports", choose)
        with pytest.raises(SecondStartError):
            ControlPlane(programs).start()


def test_failed_start_shows_the_log(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a program that ended names it and has the end of its log; nothing is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    broken = tmp_path / "programs"
    broken.mkdir()
    for program in programs.iterdir():
        (broken / program.name).symlink_to(program)
    (broken / "kube-apiserver").unlink()
    (broken / "kube-apiserver").write_text("#!/bin/sh\necho no such flag >&2\nexit 7\n")
    (broken / "kube-apiserver").chmod(0o755)
    with pytest.raises(ControlPlaneError, match=r"(?s)kube-apiserver ended by itself with code 7.*no such flag"):
        ControlPlane(broken).start()
    assert list(tmp_path.iterdir()) == [broken]
