"""Where the servers of the tests keep their data, and that nothing of it stays in memory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed import data_directory

LEFT = """
import os, signal, sys
from pathlib import Path
from testbed import data_directory
print(data_directory.make(None, Path(sys.argv[1])), flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_directory, "ROOM", 1)


def test_what_a_killed_process_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    """A directory whose process lives stays, however old it is."""
    command = [sys.executable, "-c", LEFT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        long_ago = time.time() - 3600
        os.utime(left, (long_ago, long_ago))
        first = data_directory.make(None, tmp_path)
        beside = sorted(tmp_path.iterdir())
        process.kill()
    assert beside == sorted([left, first])
    second = data_directory.make(None, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([first, second])
    for each in (first, second):
        data_directory.remove(each)
    assert list(tmp_path.iterdir()) == []


def test_without_room_in_memory_it_is_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that is too small, or not there, is not used."""
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    disk.mkdir()
    for _ in ("not there", "too small"):
        made = data_directory.make(str(disk), memory)
        assert made.parent == disk
        data_directory.remove(made)
        memory.mkdir(exist_ok=True)
        monkeypatch.setattr(data_directory, "ROOM", 2**62)
