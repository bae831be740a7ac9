"""The control plane's programs are the pinned ones, unmodified, and the cache creates each of them once."""

import hashlib
import json
import multiprocessing
import os
import tarfile
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from testbed.controlplane import releases
from testbed.controlplane.cache import once
from testbed.controlplane.minors import MODULE
from testbed.controlplane.pins import cache_key, go_version, platform, read_pins
from testbed.controlplane.provision import HELM_MODULE, find
from testbed.controlplane.releases import Release, ReleaseError, checksum_in, checksums, download, release_of

GO_MOD = """\
module example.org/x // a comment

go 1.26.0

tool (
	go.etcd.io/etcd/server/v3
	k8s.io/kubernetes/cmd/kubectl
)

tool sigs.k8s.io/kwok/cmd/kwok

require (
	go.etcd.io/etcd/server/v3 v3.7.3 // indirect
	k8s.io/kubernetes v1.37.2
)

require sigs.k8s.io/kwok v0.8.0

replace k8s.io/api => k8s.io/api v0.37.2
"""
DIGEST = "a" * 64
GITHUB = json.dumps(
    {"assets": [{"name": "other", "digest": f"sha256:{'b' * 64}"}, {"name": "file", "digest": f"sha256:{DIGEST}"}]}
)
SPAWN = multiprocessing.get_context("spawn")


def executable(path: Path, content: str = "#!/bin/sh\n") -> None:
    """Write something that may be run."""
    path.write_text(content)
    path.chmod(0o755)


def test_kubernetes_programs_know_their_version() -> None:
    """Without the linker's help a Kubernetes program calls itself v0.0.0-master."""
    programs = read_pins(GO_MOD).programs
    flags = programs["kubectl"].linker_flags
    assert "-X k8s.io/component-base/version.gitVersion=v1.37.2 " in flags
    assert flags.endswith("version.gitMinor=37")
    assert programs["etcd"].linker_flags == "-s -w"
    helm = read_pins((HELM_MODULE / "go.mod").read_text()).programs["helm"]
    assert helm.linker_flags.endswith(f"version.version={helm.version}")


def test_go_candidates_and_development_builds() -> None:
    """A candidate is older than its release, a trailing word does not matter, a development build is no version."""
    assert go_version("go1.27rc1") < go_version("1.27") == go_version("go1.27.0 X:nocoverageredesign")
    with pytest.raises(ValueError, match="devel"):
        go_version("devel go1.28-abcdef")


def test_cache_key_tells_sets_apart() -> None:
    """The cache's directory says the Kubernetes version, and changes with any byte of go.mod or go.sum."""
    pins = read_pins(GO_MOD)
    keys = {cache_key(pins, files, ("linux", "amd64")) for files in ([b"a", b"b"], [b"a", b"c"], [b"ab", b""])}
    assert len(keys) == 3
    assert all(key.startswith("v1.37.2-linux-amd64-") for key in keys)


def test_releases_are_official() -> None:
    """Each program has an address at its publisher, and a checksum from the same publisher over https."""
    pinned = [read_pins((module / "go.mod").read_text()).programs for module in (MODULE, HELM_MODULE)]
    for program in [program for programs in pinned for program in programs.values()]:
        release = release_of(program, ("linux", "arm64"))
        assert release is not None
        assert release.host in {"dl.k8s.io", "get.helm.sh", "github.com", "api.github.com"}
        assert release.url.startswith("https://")
        assert program.version in release.url
        assert "arm64" in release.url


@pytest.mark.parametrize(
    "text",
    [
        DIGEST,
        DIGEST.upper() + "\n",
        f"{'b' * 64}  other\n{DIGEST}  file\n",
        f"{DIGEST} *file\n",
        GITHUB,
    ],
)
def test_checksum_is_found(text: str) -> None:
    """A bare digest, sha256sum's lines and GitHub's JSON all give the file's digest."""
    assert checksum_in(text, "file") == DIGEST


@pytest.mark.parametrize(
    "text", ["", "Not Found", f"{DIGEST}  other\n", '{"assets": [{"name": "file", "digest": null}]}']
)
def test_no_checksum_is_none(text: str) -> None:
    """A text without the file's digest has no checksum."""
    assert checksum_in(text, "file") is None


def test_unreachable_hosts_are_given_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not answer is waited for once in a run; later requests fail at once with the same reason."""
    over = threading.Event()
    monkeypatch.setattr(releases, "_given_up", {})
    monkeypatch.setattr(releases, "_checksum", lambda _: over.wait(60))
    wanted = {"kubectl": Release("https://silent.invalid/x", "https://silent.invalid/x.sha256")}
    for patience in (0.05, 60.0):
        start = time.monotonic()
        answer = checksums(wanted, patience=patience)["kubectl"]
        assert isinstance(answer, ReleaseError)
        assert str(answer) == "https://silent.invalid: silent for 0.05 s"
        assert time.monotonic() - start < 30
    over.set()


def test_download_believes_only_the_checksum(tmp_path: Path) -> None:
    """A file of another content than published is refused and thrown away."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"program")
    release = Release(source.as_uri(), "")
    with pytest.raises(ReleaseError, match="expected SHA-256 aaa"):
        download(release, DIGEST, target)
    assert sorted(tmp_path.iterdir()) == [source]
    download(release, hashlib.sha256(b"program").hexdigest(), target)
    assert target.read_bytes() == b"program"
    assert os.access(target, os.X_OK)


def test_download_takes_the_program_out_of_an_archive(tmp_path: Path) -> None:
    """Of etcd's archive only the executable is kept; an archive without it is an error."""
    (tmp_path / "etcd").write_bytes(b"program")
    source = tmp_path / "etcd.tar.gz"
    with tarfile.open(source, "w:gz") as tar:
        tar.add(tmp_path / "etcd", "folder/etcd")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    target = tmp_path / "target"
    download(Release(source.as_uri(), "", member="folder/etcd"), digest, target)
    assert target.read_bytes() == b"program"
    with pytest.raises(ReleaseError, match="folder/other"):
        download(Release(source.as_uri(), "", member="folder/other"), digest, target)


def _make_slowly(target: Path, log: Path, started: Event, may_end: Event) -> None:
    def make(partial: Path) -> None:
        with log.open("a") as lines:
            lines.write("made\n")
        started.set()
        may_end.wait(30)
        executable(partial)

    def progress(message: str) -> None:
        with log.open("a") as lines:
            lines.write(f"{message}\n")
        may_end.set()

    once(target, make, progress=progress)


def test_two_runs_make_a_thing_once(tmp_path: Path) -> None:
    """One of two processes makes it; the other one reports which process it waits for, and uses the result."""
    target, log = tmp_path / "cache" / "kubectl", tmp_path / "log"
    started, may_end = SPAWN.Event(), SPAWN.Event()
    arguments = (target, log, started, may_end)
    first = SPAWN.Process(target=_make_slowly, args=arguments)
    first.start()
    assert started.wait(30)
    # The first one ends only when the second one has said that it waits.
    second = SPAWN.Process(target=_make_slowly, args=arguments)
    second.start()
    for process in (first, second):
        process.join(30)
        assert process.exitcode == 0
    assert log.read_text().splitlines() == ["made", f"waiting for process {first.pid}, which is making kubectl"]
    assert sorted(path.name for path in target.parent.iterdir()) == [".kubectl.lock", "kubectl"]


def test_killed_maker_leaves_no_half_thing(tmp_path: Path) -> None:
    """After a maker was killed there is no thing, the lock is free, and the next maker cleans up."""
    target, log = tmp_path / "kubectl", tmp_path / "log"
    started, may_end = SPAWN.Event(), SPAWN.Event()
    maker = SPAWN.Process(target=_make_slowly, args=(target, log, started, may_end))
    maker.start()
    assert started.wait(30)
    (tmp_path / f".kubectl.{maker.pid}.partial").touch()
    maker.kill()
    maker.join()
    assert not target.exists()
    assert once(target, executable, progress=pytest.fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".kubectl.lock", "kubectl", "log"]


def test_failed_maker_leaves_nothing(tmp_path: Path) -> None:
    """A maker that raises leaves neither the thing nor a part of it."""

    def make(partial: Path) -> None:
        partial.write_text("half")
        raise ReleaseError("broken")

    with pytest.raises(ReleaseError):
        once(tmp_path / "kubectl", make, progress=pytest.fail)
    assert [path.name for path in tmp_path.iterdir()] == [".kubectl.lock"]


def test_incomplete_assets_are_named_and_the_cache_is_hit(tmp_path: Path) -> None:
    """A KUBEBUILDER_ASSETS that lacks a program is reported, and the cache is used without asking the network."""
    pins = read_pins((MODULE / "go.mod").read_text())
    cached = (
        tmp_path
        / "controlplane"
        / cache_key(
            pins,
            [(MODULE / name).read_bytes() for name in ("go.mod", "go.sum")],
            platform(os.uname().sysname, os.uname().machine),
        )
    )
    cached.mkdir(parents=True)
    executable(cached / "kwok")
    said: list[str] = []
    environment = {"KUBEBUILDER_ASSETS": str(tmp_path), "LEDGERGATE_CACHE": str(tmp_path)}
    found = find(["kwok"], progress=said.append, environment=environment)
    assert (found.directory, found.origins) == (cached, {"kwok": "cache"})
    assert said == [f"KUBEBUILDER_ASSETS={tmp_path} lacks kwok; going on without it"]
