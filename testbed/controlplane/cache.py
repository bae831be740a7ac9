"""The cache outside the checkout: each file or directory is created once, by one process, atomically."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Return the cache directory: `LEDGERGATE_CACHE`, else `ledgergate` in the XDG cache directory."""
    if own := environment.get("LEDGERGATE_CACHE"):
        return Path(own)
    base = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME") or Path.home()) / ".cache"
    return Path(base) / "ledgergate"


def once(path: Path, make: Callable[[Path], None], *, progress: Callable[[str], None]) -> bool:
    """Create a file or directory unless it exists.

    Of several processes one creates it, the others wait. A process that is killed meanwhile leaves a partial
    result under another name, which the next one removes.

    Args:
        path: The file or directory.
        make: Creates it at the path that it gets, which is in the same directory; may raise.
        progress: Called with a line when another process is waited for.

    Returns:
        Whether this call created it.
    """
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_name(f".{path.name}.lock"), path.name, progress):
        if path.exists():
            return False
        for left in path.parent.glob(f".{path.name}.*.partial*"):
            _remove(left)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            make(partial)
            partial.rename(path)
        finally:
            _remove(partial)
    return True


@contextmanager
def _locked(lock: Path, what: str, progress: Callable[[str], None]) -> Iterator[None]:
    # The kernel releases the lock when its holder dies, so no lock is ever stale.
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            progress(f"waiting for process {file.read().strip() or 'unknown'}, which is making {what}")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
