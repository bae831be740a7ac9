"""`make matrix`: the tests that depend on a server's version, on every supported PostgreSQL and Kubernetes.

python -m testbed.matrix                              # every version
python -m testbed.matrix postgres-13 kubernetes-1.30  # these

One version after the other; a failure does not end the run. The results are written to testbed/matrix.json, from
which `make docs` makes the table of docs/versions.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.table import Table

from testbed import postgres_versions
from testbed.controlplane import Unavailable, minors
from testbed.controlplane.provision import find
from testbed.postgres_versions import VersionUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

RESULTS = Path(__file__).with_name("matrix.json")
ON_POSTGRES = ("tests/integration",)
"""The tests that run on each PostgreSQL: also those that `make test` runs on the newest alone."""
ON_KUBERNETES = tuple(
    f"tests/cluster/{name}.py"
    for name in (
        "test_hold",
        "test_outage",
        "test_release_without_guard",
        "test_rollouts",
        "test_readiness",
        "chart/test_chart",
        "chart/test_ways",
        "chart/test_uninstall",
    )
)
"""The tests that run on each Kubernetes: hold, outage, release, readiness, and the chart."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a server on which the product has to work.

    Attributes:
        product: `postgres` or `kubernetes`.
        name: As users write it, such as `13` or `1.30`.
        exact: The release that is run, such as `13.23` or `1.30.14`.
        tests: Arguments of pytest: what is run on it.
        variable: The environment variable that selects it.
        provide: Gets its programs, or raises VersionUnavailable or Unavailable.
    """

    product: str
    name: str
    exact: str
    tests: tuple[str, ...]
    variable: str
    provide: Callable[[], object]

    @property
    def key(self) -> str:
        """Its name on the command line and in the record."""
        return f"{self.product}-{self.name}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run on one version showed.

    Attributes:
        exact: The release that was run.
        date: UTC, ISO 8601.
        passed: Number of tests.
        failed: The tests that failed; also what kept the run from starting or ending.
        skipped: Number of tests.
        seconds: Of the run, without the time to build or fetch the server.
    """

    exact: str
    date: str
    passed: int
    failed: tuple[str, ...]
    skipped: int
    seconds: int


def versions() -> list[Version]:
    """Return every supported version, oldest first."""
    return [
        *(_postgres(major, package) for major, package in postgres_versions.VERSIONS.items()),
        *(_kubernetes(minor, minors.release(module)) for minor, module in minors.minors().items()),
    ]


def _postgres(major: str, package: str) -> Version:
    exact = package.partition("-")[0].removesuffix(".0")
    provide = partial(postgres_versions.installation, major)
    return Version("postgres", major, exact, ON_POSTGRES, "LEDGERGATE_POSTGRES", provide)


def _kubernetes(minor: str, exact: str) -> Version:
    environment = {**os.environ, minors.VARIABLE: minor}
    provide = partial(find, progress=partial(print, flush=True), environment=environment)
    return Version("kubernetes", minor, exact, ON_KUBERNETES, minors.VARIABLE, provide)


def counted(report: str) -> tuple[int, tuple[str, ...], int]:
    """Return what a JUnit XML report of pytest says: passed, the names of what failed, skipped.

    Args:
        report: Its text.
    """
    cases = list(ET.fromstring(report).iter("testcase"))  # noqa: S314 - pytest has just written it
    broken = (case for case in cases if _has(case, "failure", "error"))
    failed = tuple(dict.fromkeys(f"{case.get('classname')}::{case.get('name')}" for case in broken))
    skipped = sum(_has(case, "skipped") for case in cases)
    passed = sum(not _has(case, "failure", "error", "skipped") for case in cases)
    return passed, failed, skipped


def _has(case: ET.Element, *kinds: str) -> bool:
    return any(case.find(kind) is not None for kind in kinds)


def run(version: Version) -> Outcome:
    """Run the tests on a version and return what they showed."""
    date = datetime.now(UTC).date().isoformat()
    try:
        version.provide()
    except (VersionUnavailable, Unavailable) as reason:
        return Outcome(version.exact, date, 0, (f"not run: {reason}",), 0, 0)
    begin = time.monotonic()
    with TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--numprocesses=4",
            "-m",
            "not examples and not gitops",
            f"--junitxml={report}",
        ]
        status = subprocess.run(
            [*command, *version.tests], env={**os.environ, version.variable: version.name}, check=False
        ).returncode
        seconds = round(time.monotonic() - begin)
        if not report.exists():
            return Outcome(version.exact, date, 0, (f"not run: pytest ended with {status} and no report",), 0, seconds)
        passed, failed, skipped = counted(report.read_text(encoding="utf-8"))
    if status and not failed:
        failed = (f"pytest ended with {status}",)
    return Outcome(version.exact, date, passed, failed, skipped, seconds)


def merged(record: Mapping[str, Any], key: str, outcome: Outcome) -> dict[str, Any]:
    """Return the record with one version's outcome replaced."""
    return {**record, key: asdict(outcome)}


def table(outcomes: Mapping[str, Outcome]) -> Table:
    """Return the outcomes as a table for a terminal."""
    made = Table("version", "release", "passed", "failed", "skipped", "seconds")
    for key, found in outcomes.items():
        numbers = (found.passed, len(found.failed), found.skipped, found.seconds)
        made.add_row(key, found.exact, *map(str, numbers))
    return made


def _failures(outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    for key, found in outcomes.items():
        yield from (f"{key}: {failure}" for failure in found.failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix; return 1 when a test failed or a version could not be run."""
    known = {version.key: version for version in versions()}
    parser = argparse.ArgumentParser(prog="python -m testbed.matrix", description="Run tests on each version.")
    parser.add_argument("names", nargs="*", metavar="VERSION", help=f"{', '.join(known)}; all of them unless named")
    names: list[str] = parser.parse_args(arguments).names
    if unknown := [name for name in names if name not in known]:
        parser.error(f"expected {' or '.join(known)}, got {', '.join(unknown)}")
    console = Console(soft_wrap=True, highlight=False)
    outcomes: dict[str, Outcome] = {}
    for name in names or known:
        console.rule(f"{name}: {' '.join(known[name].tests)}")
        outcomes[name] = run(known[name])
        record = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(merged(record, name, outcomes[name]), indent=2) + "\n", encoding="utf-8")
    console.print(table(outcomes))
    for failure in _failures(outcomes):
        console.print(failure, style="red", markup=False)
    return int(any(found.failed for found in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
