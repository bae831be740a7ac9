"""The command of `exec`: real processes, started by a process that does nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from migrations.tools.process import ChildError, describe_exit, require_program
from testbed.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

CODE = """
import asyncio, signal, sys
from migrations.tools.process import ChildProcess

async def main():
    child = ChildProcess(["sh", "-c", *sys.argv[2:]], grace_period=float(sys.argv[1]))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, child.stop, signal.SIGTERM)
    run = asyncio.create_task(child.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, run.cancel)
    try:
        print(await run)
    except asyncio.CancelledError:
        print("cancelled")

asyncio.run(main())
"""


@contextmanager
def started(script: str, directory: Path, grace: float = 10.0) -> Iterator[subprocess.Popen[str]]:
    """Run a script of sh, whose $1 is the directory, as the child of a process that prints how it ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(grace), script, "sh", str(directory)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ran(script: str, directory: Path, grace: float = 10.0) -> str:
    """Run the script to its end, and return how it ended."""
    with started(script, directory, grace) as process:
        return process.communicate(timeout=120)[0].strip()


def noted(file: Path) -> int:
    """Wait for a pid that a script writes to a file."""
    until(file.name, lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


def alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends between open and read
        return False


@pytest.mark.parametrize(("script", "end"), [("exit 0", "0"), ("exit 7", "7"), ("kill -9 $$", "-9")])
def test_it_ends_as_its_command_does(tmp_path: Path, script: str, end: str) -> None:
    """The result is the exit code, or minus the number of the signal."""
    assert ran(script, tmp_path) == end


def test_an_exit_is_described_without_arguments() -> None:
    """Arguments may hold secrets."""
    assert describe_exit(("/usr/bin/npx", "--password", "x"), 7) == "npx exited with 7"
    assert describe_exit(("npx",), -9) == "npx was ended by SIGKILL"


def test_a_missing_program_is_an_error() -> None:
    """A program that is neither on PATH nor at its path is an error before `exec` waits for the lock."""
    with pytest.raises(ChildError, match="no 'no-such-program' on PATH"):
        require_program(("no-such-program",))
    with pytest.raises(ChildError, match="no '/no/such/program' there"):
        require_program(("/no/such/program",))
    require_program(("sh",))


def test_a_signal_reaches_what_the_command_has_started(tmp_path: Path) -> None:
    """`npx` starts a shell that starts node: all of them get the signal, and each may end in its own way."""
    inner = '(trap \'echo inner > "$1/heard"; exit 0\' TERM; echo 1 > "$1/ready"; while :; do sleep 0.05; done) &'
    with started(f"trap 'wait; exit 5' TERM\n{inner}\nwait", tmp_path) as process:
        noted(tmp_path / "ready")
        process.terminate()
        assert process.communicate(timeout=120)[0] == "5\n"
    assert (tmp_path / "heard").read_text() == "inner\n"


def test_a_command_that_ignores_signals_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    """It gets SIGTERM, and SIGKILL when the grace period is over."""
    with started("trap '' TERM; echo 1 > \"$1/ready\"; while :; do sleep 0.05; done", tmp_path, grace=0.3) as process:
        noted(tmp_path / "ready")
        process.terminate()
        assert process.communicate(timeout=120)[0] == "-9\n"


def test_what_it_leaves_running_is_ended(tmp_path: Path) -> None:
    """What the command leaves running gets SIGTERM first; the result is that of the command."""
    left = '(trap \'echo bye > "$1/bye"; exit\' TERM; echo 1 > "$1/up"; while :; do sleep 0.05; done) &'
    script = f'{left} while [ ! -e "$1/up" ]; do sleep 0.01; done; exit 3'
    # `ran` waits for less than the grace period, which would pass if the SIGTERM did not end it.
    assert ran(script, tmp_path, grace=60.0) == "3"
    assert (tmp_path / "bye").exists()


def test_what_it_leaves_and_that_ignores_signals_is_killed(tmp_path: Path) -> None:
    """What does not end by SIGTERM ends by SIGKILL, after the grace period."""
    left = "(trap '' TERM; sh -c 'echo $$ > \"$1/pid\"; exec sleep 77' sh \"$1\") &"
    assert ran(f'{left} while [ ! -s "$1/pid" ]; do sleep 0.01; done', tmp_path, grace=0.2) == "0"
    assert not alive(noted(tmp_path / "pid"))


def test_a_cancelled_run_ends_when_its_command_has_ended(tmp_path: Path) -> None:
    """A cancelled run stops the command before it ends."""
    # In `wait` the trap runs at once. A `sleep` in the foreground may miss the signal while it is forked.
    script = 'trap \'sleep 0.2; echo 1 > "$1/bye"; exit\' TERM; sleep 78 & echo $$ > "$1/pid"; wait'
    with started(script, tmp_path) as process:
        noted(tmp_path / "pid")
        process.send_signal(signal.SIGUSR1)
        assert process.communicate(timeout=120)[0] == "cancelled\n"
    assert (tmp_path / "bye").exists()


def parent(pid: int) -> int:
    """Return the pid of a process's present parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_orphans_are_reaped(tmp_path: Path) -> None:
    """As in the first process of a container: a grandchild whose parent has ended is adopted and reaped."""
    orphan = '(sh -c \'echo $$ > "$1/pid"; while [ ! -e "$1/end" ]; do sleep 0.01; done\' sh "$1" &)'
    with started(f'{orphan}; while [ ! -e "$1/go" ]; do sleep 0.01; done', tmp_path) as process:
        pid = noted(tmp_path / "pid")
        until("the orphan to be adopted", lambda: parent(pid) == process.pid)
        (tmp_path / "end").touch()
        until("the orphan to be gone", lambda: not Path(f"/proc/{pid}").exists())
        (tmp_path / "go").touch()
        assert process.communicate(timeout=120)[0] == "0\n"


def test_the_command_dies_with_ledgergate(tmp_path: Path) -> None:
    """SIGKILL of our process ends everything that the command has started."""
    with started('sh -c \'echo $$ > "$1/pid"; sleep 79; echo\' sh "$1"; echo', tmp_path) as process:
        pid = noted(tmp_path / "pid")
        assert alive(pid)
        process.kill()
        until("its end", lambda: not alive(pid))
