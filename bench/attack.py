"""The admission port under attack: how long good requests take beside thousands of hostile connections.

The server is ledgergate's, in a process of its own with its default limits and over TLS. It is measured quiet and under
each attack, in turns, in the same run: whatever else this machine does meets both.
"""

import asyncio
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from bench.servers import ROOT, write_certificate
from testbed.admission import load
from testbed.admission.attackers import KINDS
from testbed.admission.reviews import review
from testbed.admission.serve import REVISIONS
from testbed.ports import free_ports

Progress = Callable[[str], None]

ROUNDS, SECONDS = 2, 2.5
CLIENTS = 2000
"""Hostile connections."""
CONNECTIONS, RATE = 16, 400
"""Of the good client: connections, and requests a second over all of them."""
TARGET = 2.0
"""The p99 under attack, as a multiple of the p99 of a quiet server, at most."""


def measure(progress: Progress) -> dict[str, Any]:
    """Measure the latency of good requests, quiet and under each attack."""
    server_cpu, load_cpu = load.cpus()
    with TemporaryDirectory() as directory:
        certificate, key, _ = write_certificate(Path(directory))
        (port,) = free_ports(1)
        serve = ("testbed.admission.serve", str(port), str(certificate), str(key))
        with _running(server_cpu, *serve) as server:
            quiet, attacked = ({kind: _Seen() for kind in KINDS} for _ in range(2))
            for number in range(ROUNDS):
                for kind in KINDS:
                    progress(f"round {number + 1} of {ROUNDS}: {kind}")
                    quiet[kind].look(server, port)
                    with _running(load_cpu, "testbed.admission.attackers", kind, str(port), str(CLIENTS)):
                        attacked[kind].look(server, port)
    return {
        "clients": CLIENTS,
        "rounds": ROUNDS,
        "seconds": SECONDS,
        "rate": RATE,
        "load_average": round(os.getloadavg()[0], 1),
        "attacks": {kind: {"attacked": attacked[kind].summary(), "quiet": quiet[kind].summary()} for kind in KINDS},
        "figures": [_figure(kind, quiet[kind], attacked[kind]) for kind in KINDS],
    }


@dataclass(slots=True)
class _Seen:
    """What was seen of the server in the turns of one kind.

    Args:
        seconds: that each good request took.
        cpu: seconds of CPU that the server has used.
        wall: seconds that the turns have lasted.
    """

    seconds: list[float] = field(default_factory=list)
    cpu: float = 0.0
    wall: float = 0.0

    def look(self, server: int, port: int) -> None:
        """Measure one turn."""
        used, began = load.cpu_seconds(server), time.monotonic()
        self.seconds += asyncio.run(_ask(port))
        self.cpu += load.cpu_seconds(server) - used
        self.wall += time.monotonic() - began

    @property
    def p99(self) -> float:
        """Seconds within which 99 of 100 requests were answered."""
        return quantiles(self.seconds, n=100)[-1]

    def summary(self) -> dict[str, Any]:
        return {
            "median_ms": round(median(self.seconds) * 1000, 2),
            "p99_ms": round(self.p99 * 1000, 2),
            "count": len(self.seconds),
            "server_cpu_share": round(self.cpu / self.wall, 3),
        }


async def _ask(port: int) -> list[float]:
    """Send good requests at a rate; return the seconds that each took, also of one that failed."""
    body, headers = review("ns", REVISIONS[0], 5000), {"Content-Type": "application/json"}
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url, found = f"https://127.0.0.1:{port}/validate?timeout=10s", list[float]()
    connector = aiohttp.TCPConnector(ssl=context, limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20)) as session:

        async def ask() -> float:
            began = time.perf_counter()
            async with session.post(url, data=body, headers=headers) as response:
                assert response.ok, response.status
                await response.read()
            return time.perf_counter() - began

        async def work(share: int) -> None:
            await ask()  # opens the connection, as the API server did long before an attack
            began, number = time.perf_counter(), share
            while (due := number / RATE) < SECONDS:
                await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
                found.append(await ask())
                number += CONNECTIONS

        await asyncio.gather(*(work(share) for share in range(CONNECTIONS)))
    return found


@contextmanager
def _running(cpu: int, module: str, *arguments: str) -> Iterator[int]:
    """Run a module on one CPU, from the line `ready` on until the end of the block; yield its process id."""
    command = ["taskset", "-c", str(cpu), sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", f"{module} has not started"
            yield process.pid
        finally:
            process.kill()


def _figure(kind: str, quiet: _Seen, attacked: _Seen) -> dict[str, Any]:
    ratio = attacked.p99 / quiet.p99
    what = f"p99 beside {CLIENTS:,} {kind} connections, of that without"
    return {"figure": what, "ratio": round(ratio, 2), "target": TARGET, "holds": ratio <= TARGET}
