"""`make bench`: measure, print a table, write bench/results.json."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import release
from tests.cluster.controlplane import ControlPlane, Unavailable, provision
from tests.postgres import Postgres

RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Run every benchmark; returns the exit status."""
    console = Console()
    try:
        programs = provision(progress=console.print)
    except Unavailable as reason:
        console.print(f"The benchmarks need a Kubernetes control plane, and none can be had:\n{reason}")
        return 1
    with ControlPlane(programs) as plane, Postgres() as postgres:
        results = release.measure(plane, postgres)
    table = Table("what", "median", "p95", "max", "of")
    for what, found in results.items():
        times = (f"{found[key]:.0f} ms" for key in ("median_ms", "p95_ms", "max_ms"))
        table.add_row(what, *times, str(found["count"]))
    console.print(table)
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    record = {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "results": results}
    RESULTS.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
