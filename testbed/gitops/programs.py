"""Build Argo CD from the pinned Go module, once, into the cache.

Its CustomResourceDefinitions and a script that it runs are in the same module; they are copied beside the program.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from testbed.controlplane.cache import once
from testbed.controlplane.pins import read_pins
from testbed.controlplane.provision import Unavailable
from testbed.controlplane.toolchain import ToolchainError, find_go
from testbed.tools import install
from testbed.tools.install import InstallError

PINS = Path(__file__).with_name("argo")
PROGRAM = "argo"
DEFINITIONS = "definitions"
VERIFY = "git-verify-wrapper.sh"
"""Script of Argo CD that its repository server expects on PATH."""
MODULE = "github.com/argoproj/argo-cd/v3"
_BUILD = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def provision_argo_cd(*, progress: Callable[[str], None]) -> Path:
    """Return the program, after building it unless the cache has it.

    Args:
        progress: called with a line for each step.

    Returns:
        The program; its CustomResourceDefinitions are in the directory `definitions` beside it.

    Raises:
        Unavailable: there is no Go of the needed version, or no module proxy, or the build failed.
    """
    home = install.place() / f"argo-cd-{install.digest([PINS / name for name in ('go.mod', 'go.sum', 'main.go')])}"
    try:
        once(home, lambda target: _make(target, progress), progress=progress)
    except (InstallError, ToolchainError, OSError) as error:
        raise Unavailable(f"Argo CD, which testbed/gitops/argo pins, cannot be built: {error}") from error
    return home / PROGRAM


def _make(target: Path, progress: Callable[[str], None]) -> None:
    needed = read_pins((PINS / "go.mod").read_text()).go
    go = find_go(needed, install.place().parent, progress=progress)
    progress("building Argo CD with go, which takes 5 to 10 minutes, once")
    target.mkdir()
    # GOGC: less garbage collection in the compiler, which is most of the work.
    command: list[str | Path] = [go, "build", "-trimpath", "-ldflags=-s -w", "-o", target / PROGRAM, "."]
    install.run(command, PINS, GOGC="800", **_BUILD)
    (target / DEFINITIONS).mkdir()
    module = _unpacked(go)
    for file in sorted((module / "manifests" / "crds").glob("*-crd.yaml")):
        shutil.copyfile(file, target / DEFINITIONS / file.name)
    shutil.copyfile(module / "hack" / VERIFY, target / VERIFY)
    (target / VERIFY).chmod(0o755)


def _unpacked(go: Path) -> Path:
    """Return where Go unpacks Argo CD's module, in the version that `go.mod` pins."""
    command: list[str | Path] = [go, "mod", "download", "-json", MODULE]
    done = subprocess.run(command, cwd=PINS, env={**os.environ, **_BUILD}, check=False, capture_output=True, text=True)
    if done.returncode:
        raise InstallError(f"go mod download {MODULE}: {done.stderr.strip() or done.stdout.strip()}")
    return Path(json.loads(done.stdout)["Dir"])
