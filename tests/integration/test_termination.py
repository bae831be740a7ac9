"""The termination message that `kubectl describe` shows of a command in a pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.conftest import Ledgergate


def test_success_and_failure_leave_a_line(ledgergate: Ledgergate, tmp_path: Path) -> None:
    """One line about the last command that changed or checked something, with its exit code when that is not 0."""
    log = tmp_path / "termination-log"
    log.touch()
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "LEDGERGATE_TERMINATION_LOG": str(log)}
    ledgergate.write("one", "select 1", down="select 1;")
    assert ledgergate("up", **pod).returncode == 0
    assert log.read_text() == "ledgergate migrate up: done: the ledger is at 20250101000000_one\n"
    assert ledgergate("status", **pod).returncode == 0
    assert log.read_text().startswith("ledgergate migrate up: ")
    ledgergate.write("two", "select nonsense")
    assert ledgergate("up", **pod).returncode == 1
    text = log.read_text()
    assert text.startswith("ledgergate migrate up (exit 1): 20250101000001_two failed. ")
    assert "20250101000001_two.sql:2: " in text
    assert text.count("\n") == 1
    assert ledgergate("wait", "--timeout", "0", **pod).returncode == 3
    assert log.read_text().startswith("ledgergate migrate wait (exit 3): gave up after 0 s: missing 20250101000001_two")
    assert ledgergate("down", **pod).returncode == 0
    assert log.read_text() == "ledgergate migrate down: done: undid 1\n"
    log.write_text("")
    assert ledgergate("up", LEDGERGATE_TERMINATION_LOG=str(log)).returncode == 1
    assert log.read_text() == ""
