"""`make bench`: run benchmarks, print their tables and write bench/results.json.

python -m bench [admission|attack|creation|footprint|release|images|scale|tenants|migrate|lint]…   # with no name: all
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

from bench import admission, attack, creation, footprint, images, lint, migrate, release, tables, tenants
from testbed import peers
from testbed.controlplane import ControlPlane, Unavailable, provision
from testbed.postgres import Postgres
from testbed.tools.debian import program
from testbed.tools.install import InstallError

RESULTS = Path(__file__).with_name("results.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks; return exit status 1 when a named benchmark could not run, or none could."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Run benchmarks and write the results to bench/results.json."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHES)}; all of them unless named")
    names: list[str] = parser.parse_args(arguments).names
    if unknown := [name for name in names if name not in BENCHES]:
        parser.error(f"expected {' or '.join(BENCHES)}, got {', '.join(unknown)}")
    console = Console()
    done = 0
    for name in names or BENCHES:
        try:
            figures = BENCHES[name](console)
        except (Unavailable, migrate.FailedRun) as reason:
            console.print(f"{name} was not measured: {reason}", style="red", markup=False, highlight=False)
            continue
        done += 1
        for table in tables.of(name, figures):
            console.print(table)
        _write(name, figures)
    return 0 if done and (not names or done == len(names)) else 1


def merged(record: Mapping[str, Any], name: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the figures of one benchmark in the record, with the date and the machine; keep those of the others."""
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    return {**record, name: {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "results": figures}}


def _write(name: str, figures: Mapping[str, Any]) -> None:
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(merged(record, name, figures), indent=2) + "\n")


def _admission(console: Console) -> Mapping[str, Any]:
    programs = provision(progress=console.print)
    with ControlPlane(programs) as plane, Postgres() as postgres:
        return admission.measure(plane, postgres, console.print)


def _attack(console: Console) -> Mapping[str, Any]:
    return attack.measure(console.print)


def _creation(console: Console) -> Mapping[str, Any]:
    programs = provision(progress=console.print)
    with ControlPlane(programs) as plane, Postgres() as postgres:
        return creation.measure(plane, postgres, console.print)


def _footprint(console: Console) -> Mapping[str, Any]:
    programs = provision(progress=console.print)
    with ControlPlane(programs) as plane, Postgres() as postgres:
        return footprint.measure(plane, postgres, console.print)


def _release(console: Console) -> Mapping[str, Any]:
    programs = provision(progress=console.print)
    with ControlPlane(programs) as plane, Postgres() as postgres:
        return release.measure(plane, postgres)


def _images(console: Console) -> Mapping[str, Any]:
    programs = provision(progress=console.print)
    try:
        program("docker-registry")
    except InstallError as reason:
        raise Unavailable(str(reason)) from reason
    with ControlPlane(programs) as plane, Postgres() as postgres:
        return images.measure(plane, postgres, console.print)


def _scale(console: Console) -> Mapping[str, Any]:
    programs = provision(progress=console.print)
    with ControlPlane(programs) as plane, Postgres() as postgres:
        return release.scale(plane, postgres)


def _tenants(console: Console) -> Mapping[str, Any]:
    programs = provision(progress=console.print)
    with ControlPlane(programs) as plane, Postgres(max_connections=tenants.MAX_CONNECTIONS) as postgres:
        return tenants.measure(plane, postgres, console.print)


def _migrate(console: Console) -> Mapping[str, Any]:
    with console.status("installing the peers") as status:
        progress = status.update if console.is_terminal else print
        found = peers.find(progress=progress)
        for name, reason in found.absent.items():
            console.print(f"{name} is left out: {reason}", style="yellow", markup=False, highlight=False)
        return migrate.measure(found, progress=progress)


def _lint(console: Console) -> Mapping[str, Any]:
    return lint.measure(progress=console.print)


BENCHES: Mapping[str, Callable[[Console], Mapping[str, Any]]] = {
    "admission": _admission,
    "attack": _attack,
    "creation": _creation,
    "footprint": _footprint,
    "release": _release,
    "images": _images,
    "scale": _scale,
    "tenants": _tenants,
    "migrate": _migrate,
    "lint": _lint,
}


if __name__ == "__main__":
    # Exit through the context managers, which stop the servers and remove the files.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
