"""Servers pinned to one CPU, and wrk on another."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.tools import debian

SCRIPT = Path(__file__).with_name("post.lua")
CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is measured.

    Args:
        pid: its process.
        url: where it takes AdmissionReviews about pods.
    """

    pid: int
    url: str


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw.

    Args:
        rate: requests per second.
        cpu_us: microseconds of CPU of the server for a request.
    """

    rate: float
    p99_ms: float
    cpu_us: float


def cpus() -> tuple[int, int]:
    """Return one CPU for the server and one for the load.

    Raises:
        ValueError: there is only one.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        raise ValueError("the load needs a CPU of its own, and this machine has one")
    return first, others[0]


def pin(pid: int, cpu: int) -> None:
    """Keep a process, with all its threads, on one CPU."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {cpu})


def run(server: Server, body: Path, seconds: int) -> Load:
    """Post a file again and again.

    Raises:
        testbed.tools.install.InstallError: there is no wrk.
        AssertionError: a request was not answered with 200.
    """
    program, environment = debian.program("wrk")
    on = str(cpus()[1])
    flags = ["--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s", "--timeout=10s"]
    before = cpu_seconds(server.pid)
    done = subprocess.run(
        ["taskset", "-c", on, program, *flags, "-s", SCRIPT, server.url],
        env={**os.environ, **environment, "BODY": str(body)},
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    used = cpu_seconds(server.pid) - before
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    assert not found["errors"], f"{server.url}: {found}"
    return Load(found["requests"] / found["seconds"], found["p99_ms"], used / found["requests"] * 1e6)


def cpu_seconds(pid: int) -> float:
    """Return the CPU that the threads of a process have used, in seconds.

    To the nanosecond (https://docs.kernel.org/scheduler/sched-stats.html): the ticks in proc(5)'s stat are 10 ms, which
    is as much as a hundred requests.
    """
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9


def resident_mb(pid: int) -> float:
    """Return the memory of a process that is in use now, in MB (VmRSS, proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
