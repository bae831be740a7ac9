"""The programs of the control plane and their versions, as `go.mod` pins them."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALL = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")

# By default a binary has the name of the last element of its package path.
_NAMES = {"go.etcd.io/etcd/server/v3": "etcd"}
_KUBERNETES = "k8s.io/kubernetes"
_VERSION_VARIABLES = "k8s.io/component-base/version"
_HELM = "helm.sh/helm/v4"


@dataclass(frozen=True, slots=True)
class Program:
    """One executable.

    Attributes:
        name: Its file name.
        package: The Go package to build.
        module: The Go module that has the package.
        version: The module's version, with its `v`.
    """

    name: str
    package: str
    module: str
    version: str

    @property
    def linker_flags(self) -> str:
        """Value of `-ldflags`: no debugger tables, and the version of Kubernetes and helm.

        A Kubernetes program that is built without it has the version v0.0.0-master, by which admission
        and kubectl would decide about features.
        """
        if self.module == _HELM:
            return f"-s -w -X {_HELM}/internal/version.version={self.version}"
        if self.module != _KUBERNETES:
            return "-s -w"
        major, minor = self.version.removeprefix("v").split(".")[:2]
        values = {"gitVersion": self.version, "gitMajor": major, "gitMinor": minor}
        return " ".join(["-s -w", *(f"-X {_VERSION_VARIABLES}.{name}={value}" for name, value in values.items())])


@dataclass(frozen=True, slots=True)
class Pins:
    """The content of a `go.mod` that matters here.

    Attributes:
        go: The minimum Go version, as written.
        programs: By name, in the order of the `tool` lines.
    """

    go: str
    programs: Mapping[str, Program]


def read_pins(go_mod: str) -> Pins:
    """Read a `go.mod` (https://go.dev/ref/mod#go-mod-file).

    Args:
        go_mod: Its text.

    Raises:
        ValueError: It has no `go` line, or a tool whose module is not required.
    """
    directives = list(_directives(go_mod))
    versions = {words[0]: words[1] for verb, words in directives if verb == "require"}
    go = next((words[0] for verb, words in directives if verb == "go"), None)
    if go is None:
        raise ValueError("go.mod: expected a `go` line, there is none")
    packages = [words[0] for verb, words in directives if verb == "tool"]
    programs = [_program(package, versions) for package in packages]
    return Pins(go, {program.name: program for program in programs})


def go_version(text: str) -> tuple[int, int, int]:
    """Read a Go version (`1.26.0`, `go1.26.8`) as a value that sorts; `go1.27rc1` sorts before its release.

    Raises:
        ValueError: It is not one, such as that of a development build.
    """
    found = re.match(r"(?:go)?(\d+)\.(\d+)(?:\.(\d+))?(rc|beta)?", text)
    if found is None:
        raise ValueError(f"expected a Go version such as go1.26.0, there is {text!r}")
    major, minor, patch, candidate = found.groups()
    return int(major), int(minor), -1 if candidate else int(patch or 0)


def platform(system: str, machine: str) -> tuple[str, str]:
    """Translate `platform.system()` and `platform.machine()` to GOOS and GOARCH."""
    architectures = {"x86_64": "amd64", "aarch64": "arm64"}
    return system.lower(), architectures.get(machine.lower(), machine.lower())


def cache_key(pins: Pins, files: Sequence[bytes], on: tuple[str, str]) -> str:
    """Return the name of the cache directory of one set of pins; other pins have another directory."""
    digest = hashlib.sha256(b"\0".join(files)).hexdigest()[:12]
    versions = {program.version for program in pins.programs.values() if program.module == _KUBERNETES}
    return "-".join([*sorted(versions), *on, digest])


def _program(package: str, versions: Mapping[str, str]) -> Program:
    modules = [module for module in versions if f"{package}/".startswith(f"{module}/")]
    if not modules:
        raise ValueError(f"go.mod: expected a required module that has the tool {package}, there is none")
    module = max(modules, key=len)
    return Program(_NAMES.get(package, package.rsplit("/", 1)[-1]), package, module, versions[module])


def _directives(go_mod: str) -> Sequence[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    block: str | None = None
    for line in go_mod.splitlines():
        words = line.split("//")[0].split() if not line.lstrip().startswith("//") else []
        if not words:
            continue
        if block is not None:
            if words == [")"]:
                block = None
            else:
                found.append((block, words))
        elif words[1:] == ["("]:
            block = words[0]
        else:
            found.append((words[0], words[1:]))
    return found
