"""Build or install the peers, and wrk, once."""

from pathlib import Path

from testbed.controlplane.cache import once
from testbed.controlplane.pins import read_pins
from testbed.controlplane.toolchain import ToolchainError, find_go
from testbed.tools import install
from testbed.tools.install import InstallError, Progress

PINS = Path(__file__).parent
KOPF = PINS / "webhook_in_kopf.py"


def handler(progress: Progress) -> Path:
    """Return the handler in Go.

    Raises:
        InstallError: there is no toolchain, or the build failed.
    """
    files = [PINS / name for name in ("go.mod", "go.sum", "handler/main.go")]

    def make(target: Path) -> None:
        try:
            go = find_go(read_pins(files[0].read_text()).go, install.place().parent, progress=progress)
        except ToolchainError as error:
            raise InstallError(str(error)) from error
        progress("building the handler with go, which takes up to 3 minutes, once")
        target.mkdir()
        command: list[str | Path] = [go, "build", "-trimpath", "-ldflags=-s -w", "-o", target / "handler"]
        install.run([*command, "./handler"], PINS, CGO_ENABLED="0", GOFLAGS="-mod=readonly", GOWORK="off")

    home = install.place() / f"admission-{install.digest(files)}"
    once(home, make, progress=progress)
    return home / "handler"


def kopf(progress: Progress) -> Path:
    """Return the interpreter of an environment with kopf.

    Raises:
        InstallError: pip failed.
    """
    return install.python(PINS, install.place(), progress)
