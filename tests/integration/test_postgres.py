"""The embedded server cleans up after itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.ports import free_ports
from testbed.postgres import Postgres, _scratch
from testbed.waiting import until

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]


def test_it_dies_with_its_parent() -> None:
    """After SIGKILL of the process that started it, no server is left."""
    # A copy of the programs, where there is one, stays in here after a SIGKILL.
    with tempfile.TemporaryDirectory(dir=_scratch()) as scratch:
        Path(scratch).chmod(0o755)
        process = subprocess.Popen(
            [sys.executable, "-m", "testbed.postgres"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": scratch},
        )
        assert process.stdout is not None
        assert process.stdout.readline().startswith("postgresql://")
        server = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        home = Path(f"/proc/{server}/cwd").resolve()
        process.kill()
        process.communicate()
        until("its end", lambda: not Path(f"/proc/{server}").exists())
        shutil.rmtree(home)  # the data, which a later run would remove


def test_a_port_that_is_taken_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another server has taken its port, with another password, a new server takes the next one."""
    with Postgres() as other:
        ports = iter(([other.port], free_ports(1)))
        monkeypatch.setattr("testbed.postgres.free_ports", lambda _: next(ports))
        with Postgres() as server:
            assert server.port != other.port
            assert server.create_database().startswith(f"postgresql://postgres:{server.password}@")


def test_it_leaves_nothing() -> None:
    """After `close` neither a process nor a file of it is there."""
    with Postgres() as server:
        home = server.data.parent
        assert home.exists()
    assert not home.exists()
    assert not server.running
