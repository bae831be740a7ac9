"""The minor versions of Kubernetes that the tests can run: `LEDGERGATE_KUBERNETES=1.30`.

The newest is pinned by the `go.mod` of this directory, each older one by one in `kubernetes/`. Of an older one only the
API server, the controller manager and the scheduler are built; etcd, kubectl and kwok are the newest's.

`python -m testbed.controlplane.minors 1.30` pins the newest patch release of a minor version anew (needs Go and a
module proxy).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from testbed.controlplane.pins import read_pins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIABLE = "LEDGERGATE_KUBERNETES"
MODULE = Path(__file__).parent
OLDER = MODULE / "kubernetes"
KUBERNETES = "k8s.io/kubernetes"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_STAGED = re.compile(r"^\s*(?:replace\s+)?(k8s\.io/\S+) => \./staging/", re.MULTILINE)
_TEMPLATE = """\
// The API server, controller manager and scheduler of Kubernetes {minor}, pinned, for `make matrix`. Made by
// `python -m testbed.controlplane.minors {minor}`; there is no Go code here.
module ledgergate.dev/controlplane/kubernetes

go {go}

tool (
{tools}
)

require {kubernetes} {version}

// k8s.io/kubernetes asks for its staging modules at v0.0.0; these are their releases, or the newest earlier one that
// the module proxy had.
replace (
{staged}
)
"""


def minors() -> dict[str, Path]:
    """Return the directory of the `go.mod` of each minor version, oldest first."""
    older = sorted((each.parent for each in OLDER.glob("*/go.mod")), key=lambda home: _order(home.name))
    newest = release(MODULE).rpartition(".")[0]
    return {**{home.name: home for home in older}, newest: MODULE}


def release(module: Path) -> str:
    """Return the Kubernetes release that a module pins, such as `1.30.14`."""
    programs = read_pins((module / "go.mod").read_text(encoding="utf-8")).programs
    return programs["kube-apiserver"].version.removeprefix("v")


def module_of(minor: str) -> Path:
    """Return the directory of the `go.mod` of a minor version.

    Raises:
        ValueError: It is not one of `minors()`.
    """
    known = minors()
    if minor not in known:
        raise ValueError(f"{VARIABLE}: expected {' or '.join(known)}, got {minor!r}")
    return known[minor]


def staging_modules(kubernetes: str) -> list[str]:
    """Return the modules that live in the repository of Kubernetes, from its `go.mod`."""
    return sorted(set(_STAGED.findall(kubernetes)))


def staged_release(version: str, published: Sequence[str]) -> str:
    """Return the release of a staging module that belongs to a release of Kubernetes.

    Args:
        version: The release of Kubernetes, such as `v1.30.14`.
        published: The module's versions.

    Returns:
        The newest published patch release up to the same one, here v0.30.14; the same one if none is published.
    """
    wanted = f"v0.{version.split('.', 1)[1]}"
    minor = f"{wanted.rpartition('.')[0]}."
    earlier = [each for each in published if re.fullmatch(rf"{re.escape(minor)}\d+", each)]
    return max((each for each in earlier if _order(each) <= _order(wanted)), key=_order, default=wanted)


def go_mod(version: str, go: str, staged: Mapping[str, str]) -> str:
    """Return the `go.mod` of a release, which `go mod tidy` completes.

    Args:
        version: The release, with its `v`.
        go: The minimum Go version.
        staged: The version of each staging module.
    """
    return _TEMPLATE.format(
        minor=version.removeprefix("v").rpartition(".")[0],
        go=go,
        tools="\n".join(f"\t{KUBERNETES}/cmd/{name}" for name in PROGRAMS),
        kubernetes=KUBERNETES,
        version=version,
        staged="\n".join(f"\t{module} => {module} {release}" for module, release in staged.items()),
    )


def pin(minor: str) -> str:
    """Write `go.mod` and `go.sum` of the newest release of a minor version; return the release, with its `v`.

    Raises:
        ValueError: The module proxy has no release of it.
        subprocess.CalledProcessError: Go failed; its output is shown.
    """
    home = OLDER / minor
    with TemporaryDirectory() as scratch:  # outside the checkout: Go would change the go.sum of the next module above
        version, text = _newest(minor, Path(scratch))
    home.mkdir(parents=True, exist_ok=True)
    (home / "go.sum").unlink(missing_ok=True)
    (home / "go.mod").write_text(text, encoding="utf-8")
    _go(home, "mod", "tidy")
    return version


def _newest(minor: str, scratch: Path) -> tuple[str, str]:
    """Return the newest release of a minor version, and its `go.mod`."""
    (scratch / "go.mod").write_text("module scratch\n", encoding="utf-8")
    published = _go(scratch, "list", "-m", "-versions", KUBERNETES).split()
    released = [each for each in published if re.fullmatch(rf"v{re.escape(minor)}\.\d+", each)]
    if not released:
        raise ValueError(f"expected a release v{minor}.N of {KUBERNETES}, there is none")
    version = max(released, key=_order)
    downloaded = json.loads(_go(scratch, "mod", "download", "-json", f"{KUBERNETES}@{version}"))
    modules = staging_modules(Path(downloaded["GoMod"]).read_text(encoding="utf-8"))
    # With -e, since the proxy may lack a module that none of the programs needs.
    listed = (line.split() for line in _go(scratch, "list", "-e", "-m", "-versions", *modules).splitlines())
    go = read_pins((MODULE / "go.mod").read_text(encoding="utf-8")).go
    return version, go_mod(version, go, {module: staged_release(version, found) for module, *found in listed})


def _go(home: Path, *arguments: str) -> str:
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    return subprocess.run(["go", *arguments], cwd=home, env=environment, check=True, text=True, stdout=-1).stdout


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.removeprefix("v").split(".")))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {pin(name)}")
