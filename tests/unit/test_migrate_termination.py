from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from migrations.cli.report import LineReporter, write_termination_log

if TYPE_CHECKING:
    from pathlib import Path

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file that the kubelet creates."""
    path = tmp_path / "termination-log"
    path.touch()
    return path


def test_one_line_is_written_in_a_pod(log: Path) -> None:
    """A success and a failure are each one line, with the command and the exit code, of 4096 bytes at most."""
    pod = POD | {"LEDGERGATE_TERMINATION_LOG": str(log)}
    write_termination_log(pod, "migrate up", 0, "done: the ledger is at x")
    assert log.read_text() == "ledgergate migrate up: done: the ledger is at x\n"
    write_termination_log(pod, "migrate up", 1, "x failed. x.sql:3: no")
    assert log.read_text() == "ledgergate migrate up (exit 1): x failed. x.sql:3: no\n"
    write_termination_log(pod, "migrate up", 1, "ä" * 5000)
    assert len(log.read_bytes()) == 4096


def test_nothing_is_written_elsewhere(log: Path, tmp_path: Path) -> None:
    """Nothing is written outside a pod, without such a file, to a directory, or without a summary."""
    write_termination_log({"LEDGERGATE_TERMINATION_LOG": str(log)}, "migrate up", 0, "done")
    write_termination_log(POD | {"LEDGERGATE_TERMINATION_LOG": str(tmp_path / "none")}, "migrate up", 0, "done")
    write_termination_log(POD | {"LEDGERGATE_TERMINATION_LOG": str(tmp_path)}, "migrate up", 0, "done")
    write_termination_log(POD | {"LEDGERGATE_TERMINATION_LOG": str(log)}, "migrate status", 0, "")
    assert log.read_text() == ""
    assert not (tmp_path / "none").exists()


def test_the_summary_of_a_reporter() -> None:
    """It is the first failure and the number of further ones, on one line; without failures, the last line."""
    reporter = LineReporter()
    assert reporter.summary == ""
    reporter.info("a", "begun")
    reporter.info("a", "done")
    assert reporter.summary == "done"
    reporter.error("b", "first\nline")
    assert reporter.summary == "first line"
    reporter.error("b", "second")
    assert reporter.summary == "first line (and 1 more)"
