"""The benchmarks compare the same work and lose no figure."""

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import images, tables
from bench.migrate import figures, logged, small
from migrations.files.native import load_directory
from testbed.cluster.pod_watch import Sight
from testbed.controlplane import Unavailable
from testbed.peers import Peer, Step, tools
from testbed.peers.install import PINS, Source, find
from testbed.timing import Command, run, together
from testbed.tools.install import InstallError

HERE = Path("peers")
EVERY = [
    tools.ledgergate(HERE, "1"),
    tools.psql(HERE, "1"),
    tools.least(HERE, "1"),
    *tools.npm(HERE, {"knex": "1", "node-pg-migrate": "1"}),
    *tools.go(HERE, {"goose": "1", "migrate": "1"}),
    *tools.python(HERE, {"alembic": "1"}),
]


def python(source: str, directory: Path) -> Command:
    """Return a command that runs Python."""
    return Command([sys.executable, "-I", "-S", "-c", source], directory, {"GIVEN": "yes"})


@pytest.mark.parametrize("tool", EVERY, ids=lambda tool: tool.name)
def test_each_tool_gets_every_statement_once_and_in_order(tool: Peer, tmp_path: Path) -> None:
    """In the order of their names, the files of a tool contain each statement exactly once."""
    steps = logged(12)
    tool.write(tmp_path, steps)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and "ran" in path.read_text())
    found = re.findall(r"insert into ran \(step\) select (\d+) from", "".join(path.read_text() for path in files))
    assert found == [str(step.number) for step in steps]


def test_ledgergate_reads_the_files_written_for_it(tmp_path: Path) -> None:
    """They are one migration for each step."""
    steps = small(8)
    tools.ledgergate(HERE, "1").write(tmp_path, steps)
    assert [migration.revision for migration in load_directory(tmp_path / "migrations")] == [
        step.name for step in steps
    ]


def test_psql_commits_each_migration_with_its_row(tmp_path: Path) -> None:
    """The reference commits as the tools do: one transaction per migration, which includes its ledger row."""
    tools.psql(HERE, "1").write(tmp_path, [Step(1, "select 1"), Step(2, "select 2")])
    lines = (tmp_path / "all.sql").read_text().splitlines()[5:]
    row = "insert into ledger (revision) values ('{}');"
    assert lines == [
        *("begin;", "select 1;", row.format("20250101000100_step_0001"), "commit;"),
        *("begin;", "select 2;", row.format("20250101000200_step_0002"), "commit;"),
    ]


def test_a_process_is_measured_completely(tmp_path: Path) -> None:
    """Its CPU time, exit status and last output are returned, and it inherits no other environment variable."""
    burn = "import os, time\nwhile time.process_time() < 0.05: pass"
    report = "print(sorted({'GIVEN', 'PYTHONPATH', 'USER'} & {*os.environ}))\nraise SystemExit(7)"
    ended = run(python(f"{burn}\n{report}", tmp_path))
    assert (ended.status, ended.said) == (7, "['GIVEN']")
    assert ended.cpu >= 0.05
    assert ended.wall >= 0.05


def test_processes_run_together(tmp_path: Path) -> None:
    """All are started before one is waited for: each process here waits for the files of the others."""
    source = (
        "import os, sys, time\nopen(str(os.getpid()), 'x').close()\nlate = time.monotonic() + 20\n"
        "while len(os.listdir()) < 3 and time.monotonic() < late: time.sleep(0.001)\nsys.exit(len(os.listdir()))"
    )
    assert [ended.status for ended in together([python(source, tmp_path)] * 3)] == [3, 3, 3]


def test_other_results_stay() -> None:
    """New figures of one benchmark replace its old ones and nothing else."""
    old = {"release": {"results": {"a": 1}}, "migrate": {"results": {"b": 2}}}
    new = bench.merged(old, "migrate", {"c": 3})
    assert new["release"] == old["release"]
    assert new["migrate"]["results"] == {"c": 3}
    assert old["migrate"]["results"] == {"b": 2}


def test_the_kept_results_can_be_shown() -> None:
    """Every benchmark in results.json exists, and its tables can be printed."""
    kept = json.loads(bench.RESULTS.read_text())
    assert kept
    for name, record in kept.items():
        assert name in bench.BENCHES
        assert list(tables.of(name, record["results"]))


@pytest.mark.parametrize(
    ("names", "status"), [([], 0), (["release"], 0), (["release", "scale"], 1), (["scale"], 1)], ids=str
)
def test_the_exit_status_is_1_when_a_named_benchmark_cannot_run(
    names: list[str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without names, the benchmarks that can run are enough."""

    def refuse(_: object) -> dict[str, object]:
        raise Unavailable("no control plane")

    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(bench, "BENCHES", {"release": lambda _: {}, "scale": refuse})
    assert bench.main(names) == status


def test_the_exit_status_is_1_when_no_benchmark_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that measured nothing has failed."""

    def refuse(_: object) -> dict[str, object]:
        raise Unavailable("no control plane")

    monkeypatch.setattr(bench, "BENCHES", {"release": refuse})
    assert bench.main([]) == 1


def test_a_pod_waits_from_its_images_label_on() -> None:
    """A held pod's wait begins at the first reading of its own image in its namespace; other pods have no wait."""
    log = (
        "2026-01-01T00:00:10.000Z info    image.read namespace=shop image=localhost:1/shop/one@sha256:1 revision=a\n"
        "2026-01-01T00:00:10.500Z info    image.read namespace=shop image=localhost:1/shop/two@sha256:2 revision=a\n"
        "2026-01-01T00:00:11.000Z info    image.read namespace=shop image=localhost:1/shop/one@sha256:1 revision=a\n"
        "2026-01-01T00:00:01.000Z info    image.read namespace=shopper image=localhost:1/shop/two@sha256:2 revision=\n"
    )
    began = datetime(2026, 1, 1, tzinfo=UTC).timestamp()

    def sight(at: float, name: str, *, gated: bool) -> Sight:
        return Sight(began + at, name, {"app": name.partition("-")[0]}, gated, "Pending", init_running=False)

    known = images.labels_known(log, "shop")
    assert known == {"one": began + 10, "two": began + 10.5}
    sights = [
        *(sight(9, name, gated=True) for name in ("one-early", "two-early")),
        sight(10.125, "one-early", gated=False),
        sight(10.25, "one-late", gated=True),
        sight(10.25, "one-never", gated=False),
        sight(10.5, "one-late", gated=False),
        sight(10.75, "two-early", gated=False),
    ]
    assert images.waits(sights, known) == {"one": [0.125, 0.25], "two": [0.25]}


def test_absent_peers_are_named(tmp_path: Path) -> None:
    """A peer that cannot be installed is left out with the reason."""

    def refuse(_: Path, __: object) -> list[Peer]:
        raise InstallError("expected npm on PATH")

    sources = [Source(["knex", "dbmate"], refuse), Source(["psql", "other"], lambda *_: [tools.psql(HERE, "1")])]
    found = find(progress=print, environment={"LEDGERGATE_CACHE": str(tmp_path)}, sources=sources)
    assert [tool.name for tool in found.tools] == ["psql"]
    assert found.absent == {
        **dict.fromkeys(("knex", "dbmate"), "expected npm on PATH"),
        "other": "not available for this machine",
    }


def test_pins_name_no_registry() -> None:
    """The pinned files name no registry, so that they work with the registry of the machine."""
    lock = json.loads((PINS / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    assert "http" not in (PINS / "requirements.txt").read_text()


def test_the_runner_is_judged_beside_each_peer_that_was_measured() -> None:
    """The fastest peer is neither ledgergate nor psql, and a peer that was left out has no figure."""

    def times(**wall: float) -> dict[str, dict[str, float]]:
        return {name.replace("_", " "): {"wall_ms": ms, "cpu_ms": ms / 2} for name, ms in wall.items()}

    found = list(figures(times(ledgergate=60, asyncpg_alone=50), times(psql=100, ledgergate=105, goose=110, knex=400)))
    assert [(each["figure"], each["ratio"], each["holds"]) for each in found] == [
        ("nothing pending: wall time, of asyncpg alone", 1.2, False),
        ("2,000 small migrations: wall time, of psql", 1.05, True),
        ("2,000 small migrations: wall time, of goose", 0.955, True),
    ]
    assert [each["figure"] for each in figures(times(ledgergate=1, knex=2), times(ledgergate=1))] == [
        "nothing pending: CPU, of knex"
    ]
