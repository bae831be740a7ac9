from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from migrations.cli.report import LineReporter
from migrations.cli.termination import write_termination_log

if TYPE_CHECKING:
    from pathlib import Path

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file that the kubelet has put there."""
    path = tmp_path / "termination-log"
    path.touch()
    return path


def test_a_pod_is_left_with_one_line(log: Path) -> None:
    """Of a success and of a failure, with the command and the exit code."""
    pod = POD | {"LEDGERGATE_TERMINATION_LOG": str(log)}
    write_termination_log(pod, "migrate up", 0, "done: the ledger is at x")
    assert log.read_text() == "ledgergate migrate up: done: the ledger is at x\n"
    write_termination_log(pod, "migrate up", 1, "x failed. x.sql:3: no")
    assert log.read_text() == "ledgergate migrate up (exit 1): x failed. x.sql:3: no\n"
    write_termination_log(pod, "migrate up", 1, "ä" * 5000)
    assert len(log.read_bytes()) == 4096


def test_nothing_is_left_elsewhere(log: Path, tmp_path: Path) -> None:
    """Outside a pod, without such a file, where it cannot be written, or with nothing to say."""
    write_termination_log({"LEDGERGATE_TERMINATION_LOG": str(log)}, "migrate up", 0, "done")
    write_termination_log(POD | {"LEDGERGATE_TERMINATION_LOG": str(tmp_path / "none")}, "migrate up", 0, "done")
    write_termination_log(POD | {"LEDGERGATE_TERMINATION_LOG": str(tmp_path)}, "migrate up", 0, "done")
    write_termination_log(POD | {"LEDGERGATE_TERMINATION_LOG": str(log)}, "migrate status", 0, "")
    assert log.read_text() == ""
    assert not (tmp_path / "none").exists()


def test_a_report_sums_itself_up() -> None:
    """The first failure and how many follow, on one line; without one, the last word."""
    report = LineReporter()
    assert report.summary == ""
    report.info("a", "begun")
    report.info("a", "done")
    assert report.summary == "done"
    report.error("b", "first\nline")
    assert report.summary == "first line"
    report.error("b", "second")
    assert report.summary == "first line (and 1 more)"
