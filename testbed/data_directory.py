"""Directories for the data of test servers, in memory where the machine has room.

Each test has a database of 300 files. On a disk they take five times the CPU, and the test also waits for the disk.
"""

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp
ROOM = 2 * 2**30
"""Bytes that must be free in memory; the servers of a run use some 200 MB each. A container has 64 MB by default."""

_PREFIX = "ledgergate-data-"
_NEW = 60.0
"""Age in seconds below which a directory counts as still being created: its lock may not be held yet."""
_locks: dict[Path, int] = {}


def make(elsewhere: str | None, memory: Path | None = MEMORY) -> Path:
    """Create a directory, and remove those of processes that were killed: they would occupy memory.

    Args:
        elsewhere: Directory to make it in where memory has no room; None for the default one.
        memory: A file system in memory; None for a server that has to wait for a disk.
    """
    parent = str(memory) if memory and _has_room(memory) else elsewhere
    _remove_left(Path(parent or tempfile.gettempdir()))
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    # The kernel releases it when this process dies; a process id would mean nothing in another container.
    _locks[made] = os.open(made / "lock", os.O_CREAT | os.O_WRONLY, 0o600)
    fcntl.flock(_locks[made], fcntl.LOCK_EX)
    return made


def remove(made: Path) -> None:
    """Remove a directory of this process."""
    shutil.rmtree(made, ignore_errors=True)
    os.close(_locks.pop(made))


def _has_room(memory: Path) -> bool:
    try:
        return os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= ROOM
    except OSError:
        return False


def _remove_left(parent: Path) -> None:
    for directory in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - directory.stat().st_mtime > _NEW and not _in_use(directory / "lock"):
                shutil.rmtree(directory, ignore_errors=True)


def _in_use(lock: Path) -> bool:
    descriptor = os.open(lock, os.O_WRONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
