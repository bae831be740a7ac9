"""Official release binaries: where they are, their checksums, and how they are fetched.

Exception
└── ReleaseError    a release cannot be fetched from its official address
"""

import hashlib
import json
import queue
import re
import shutil
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from testbed.controlplane.pins import Program

# Seconds for all addresses together: a closed network drops packets instead of refusing connections.
PATIENCE = 3.0
STALL = 15.0
_CHUNK = 1 << 20
_HEX = re.compile(r"[0-9a-f]{64}")
# Hosts that refused or did not answer in this run, with the reason; they are not asked again.
_given_up: dict[str, str] = {}


class ReleaseError(Exception):
    """A release cannot be fetched from its official address."""


@dataclass(frozen=True, slots=True)
class Release:
    """One file of an official release.

    Attributes:
        url: The file.
        checksums: URL of its SHA-256, on the publisher's host.
        member: The executable's path in the file if that is a tar archive.
    """

    url: str
    checksums: str
    member: str | None = None

    @property
    def file_name(self) -> str:
        """The last part of the URL, as checksum lists name it."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def host(self) -> str:
        """Host of the checksums."""
        return urlsplit(self.checksums).netloc


def release_of(program: Program, on: tuple[str, str]) -> Release | None:
    """Return where a program's official binary is, or None if its publisher has none.

    See https://kubernetes.io/releases/download/, https://helm.sh/docs/intro/install/, and the release pages of etcd
    and kwok on GitHub.

    Args:
        program: The program.
        on: GOOS and GOARCH.
    """
    system, machine = on
    version = program.version
    if program.module == "k8s.io/kubernetes":
        url = f"https://dl.k8s.io/release/{version}/bin/{system}/{machine}/{program.name}"
        return Release(url, f"{url}.sha256")
    if program.name == "etcd":
        base = f"https://github.com/etcd-io/etcd/releases/download/{version}"
        folder = f"etcd-{version}-{system}-{machine}"
        return Release(f"{base}/{folder}.tar.gz", f"{base}/SHA256SUMS", member=f"{folder}/etcd")
    if program.name == "helm":
        folder = f"{system}-{machine}"
        url = f"https://get.helm.sh/helm-{version}-{folder}.tar.gz"
        return Release(url, f"{url}.sha256sum", member=f"{folder}/helm")
    if program.name == "kwok":
        # kwok publishes no list of checksums; GitHub computes one for every asset.
        repository = "kubernetes-sigs/kwok"
        return Release(
            f"https://github.com/{repository}/releases/download/{version}/kwok-{system}-{machine}",
            f"https://api.github.com/repos/{repository}/releases/tags/{version}",
        )
    return None


def checksum_in(text: str, file_name: str) -> str | None:
    """Return a file's SHA-256 from its publisher's text, or None.

    Args:
        text: A bare digest, lines as of `sha256sum`, or GitHub's JSON of a release.
        file_name: Name of the file.
    """
    if text.lstrip().startswith("{"):
        assets = json.loads(text).get("assets", [])
        found = [asset.get("digest") or "" for asset in assets if asset.get("name") == file_name]
        candidates = [digest.removeprefix("sha256:") for digest in found]
    else:
        lines = [line.split() for line in text.splitlines()]
        candidates = [words[0] for words in lines if words and (len(words) == 1 or words[-1].lstrip("*") == file_name)]
    return next((digest.lower() for digest in candidates if _HEX.fullmatch(digest.lower())), None)


def checksums(releases: Mapping[str, Release], *, patience: float = PATIENCE) -> dict[str, str | ReleaseError]:
    """Fetch the checksums of several releases at once, which also shows whether their hosts can be reached.

    Args:
        releases: By program name.
        patience: Seconds for all of them together.

    Returns:
        By program name: the checksum, or why there is none.
    """
    answers: queue.SimpleQueue[tuple[str, str | ReleaseError]] = queue.SimpleQueue()
    found: dict[str, str | ReleaseError] = {}
    for name, release in releases.items():
        if release.host in _given_up:
            found[name] = ReleaseError(f"https://{release.host}: {_given_up[release.host]}")
        else:
            # Daemons: a name server that does not answer blocks a thread for longer than `patience`.
            threading.Thread(
                target=lambda n, r: answers.put((n, _checksum(r))), args=(name, release), daemon=True
            ).start()
    deadline = time.monotonic() + patience
    while len(found) < len(releases):
        try:
            name, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[name] = answer
    for name, release in releases.items():
        if name not in found:
            found[name] = _give_up(release, f"silent for {patience:g} s")
    return found


def download(release: Release, checksum: str, destination: Path) -> None:
    """Fetch an executable and check its checksum.

    Args:
        release: What to fetch.
        checksum: SHA-256 of the file that is fetched, in hex.
        destination: Path of the executable; after a failure it may not exist.

    Raises:
        ReleaseError: It cannot be fetched, or has another checksum.
    """
    archive = destination.with_name(f"{destination.name}.download")
    try:
        with urllib.request.urlopen(release.url, timeout=STALL) as source, archive.open("wb") as target:  # noqa: S310 - https, from `release_of`
            digest = _copy(source, target)
        if digest != checksum:
            raise ReleaseError(f"{release.url}: expected SHA-256 {checksum}, there is {digest}; thrown away")
        if release.member is None:
            archive.replace(destination)
        else:
            _extract(archive, release.member, destination)
        destination.chmod(0o755)
    except (OSError, tarfile.TarError, KeyError) as error:
        raise ReleaseError(f"{release.url}: {error}") from error
    finally:
        archive.unlink(missing_ok=True)


def _checksum(release: Release) -> str | ReleaseError:
    try:
        with urllib.request.urlopen(release.checksums, timeout=PATIENCE) as answer:  # noqa: S310 - https, from `release_of`
            if not answer.url.startswith("https://"):
                return ReleaseError(f"{release.checksums}: led to {answer.url}, which is not https")
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        return ReleaseError(f"{release.checksums}: {error}")
    except OSError as error:
        return _give_up(release, str(getattr(error, "reason", error)))
    return checksum_in(text, release.file_name) or ReleaseError(
        f"{release.checksums}: no SHA-256 of {release.file_name}"
    )


def _give_up(release: Release, reason: str) -> ReleaseError:
    _given_up[release.host] = reason
    return ReleaseError(f"https://{release.host}: {reason}")


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _extract(archive: Path, member: str, destination: Path) -> None:
    with tarfile.open(archive) as tar:
        source = tar.extractfile(member)
        if source is None:
            raise KeyError(f"{member} is no file in it")
        with source, destination.open("wb") as target:
            shutil.copyfileobj(source, target)
