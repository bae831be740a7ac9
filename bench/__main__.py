"""`make bench`: measure, print tables, write bench/results.json.

python -m bench [release|scale|migrate]…      # without a name: everything that its parts can be had for
"""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import migrate, release, tables
from testbed import peers
from testbed.controlplane import ControlPlane, Unavailable, provision
from testbed.postgres import Postgres

RESULTS = Path(__file__).with_name("results.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks; returns the exit status, 1 when one that was named, or every one, could not be run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure; figures go to bench/results.json.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{' or '.join(BENCHES)}; without one, all of them")
    named: list[str] = parser.parse_args(arguments).names
    if unknown := [name for name in named if name not in BENCHES]:
        parser.error(f"expected {' or '.join(BENCHES)}, got {', '.join(unknown)}")
    console = Console()
    done = 0
    for name in named or BENCHES:
        try:
            figures = BENCHES[name](console)
        except (Unavailable, migrate.FailedRun) as reason:
            console.print(f"{name} was not measured: {reason}", style="red", markup=False, highlight=False)
            continue
        done += 1
        for table in tables.of(name, figures):
            console.print(table)
        _write(name, figures)
    return 0 if done == len(named or [name for name in BENCHES if done]) else 1


def merged(record: Mapping[str, Any], name: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Put figures, with day and machine, in place of this benchmark's old ones; the others' stay."""
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    return {**record, name: {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "results": figures}}


def _write(name: str, figures: Mapping[str, Any]) -> None:
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(merged(record, name, figures), indent=2) + "\n")


def _release(console: Console) -> Mapping[str, Any]:
    programs = provision(progress=console.print)
    with ControlPlane(programs) as plane, Postgres() as postgres:
        return release.measure(plane, postgres)


def _scale(console: Console) -> Mapping[str, Any]:
    programs = provision(progress=console.print)
    with ControlPlane(programs) as plane, Postgres() as postgres:
        return release.scale(plane, postgres)


def _migrate(console: Console) -> Mapping[str, Any]:
    with console.status("finding the peers") as status:
        progress = status.update if console.is_terminal else print
        found = peers.find(progress=progress)
        for name, reason in found.absent.items():
            console.print(f"{name} takes no part: {reason}", style="yellow", markup=False, highlight=False)
        return migrate.measure(found, progress=progress)


BENCHES: Mapping[str, Callable[[Console], Mapping[str, Any]]] = {
    "release": _release,
    "scale": _scale,
    "migrate": _migrate,
}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that servers and files are taken away
    sys.exit(main())
