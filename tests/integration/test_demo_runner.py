"""The runner's half of the demo, which is shown while the control plane is compiled."""

from io import StringIO

from rich.console import Console

from demo import runner
from demo.timeline import Timeline


def test_the_others_finish_what_the_killed_run_began() -> None:
    """Every run but the killed one exits 0, and the printed ledger has every migration."""
    printed = StringIO()
    assert runner.show(Timeline(Console(file=printed, width=200))) == runner.RUNS - 1
    assert "killed" in printed.getvalue()
    assert f"{runner.SLOW} " in printed.getvalue()
    assert "4 applied" in printed.getvalue()
