"""The image, built from the Dockerfile as it stands, where buildah and a base image can be had."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.cluster.image import Runtime, content, migrate_times

pytestmark = pytest.mark.timeout(900)

CHECKOUT = Path(__file__).parents[2]
DOCUMENTED_BASE = "python:3.13-slim"
NETWORK_SETTINGS = {"index-url", "extra-index-url", "trusted-host", "proxy", "timeout"}
PYTHON = "/opt/ledgergate/bin/python"


class BuildahError(Exception):
    """A command of buildah failed; the message ends with what it said."""


@dataclass(frozen=True, slots=True)
class Buildah:
    """Buildah with a storage of its own, without daemon, overlay mounts or network namespaces."""

    storage: Path

    @property
    def own(self) -> tuple[str, ...]:
        """The flags of its storage."""
        root, run = str(self.storage / "root"), str(self.storage / "run")
        return ("--root", root, "--runroot", run, "--storage-driver", "vfs")

    def __call__(self, *args: str, timeout: float = 600) -> str:
        """Run a command and return its standard output."""
        try:
            done = subprocess.run(
                ["buildah", *self.own, *args], check=False, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired as late:
            raise BuildahError(f"buildah {args[0]}: not done after {timeout:g} s") from late
        if done.returncode:
            raise BuildahError(f"buildah {args[0]}: {done.stderr.strip()[-3000:]}")
        return done.stdout.strip()


@pytest.fixture(scope="module")
def buildah() -> Iterator[Buildah]:
    """Skipped without buildah, under CI too: it is no Python package, and installing it may need root."""
    if shutil.which("buildah") is None:
        pytest.skip("the image is not built: there is no buildah on this machine (apt-get install buildah mmdebstrap)")
    with TemporaryDirectory(prefix="ledgergate-image-") as directory:
        tool = Buildah(Path(directory))
        try:
            yield tool
        finally:
            tool("rm", "--all")
            tool("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def base(buildah: Buildah) -> str:
    """A base image: the documented one, else a Debian made on the spot; it must be able to run something."""
    refusals = []
    for source in (pulled, bootstrapped):
        try:
            image = source(buildah)
            container = buildah("from", image)
            buildah("run", "--isolation", "chroot", container, "--", "python3", "-m", "venv", "--help")
            buildah("rm", container)
        except (BuildahError, subprocess.CalledProcessError, FileNotFoundError) as error:
            refusals.append(f"{source.__name__}: {error}")
        else:
            return image
    pytest.skip(f"the image is not built: no base image can be had and run here ({'; '.join(refusals)})")


def pulled(buildah: Buildah) -> str:
    buildah("pull", DOCUMENTED_BASE, timeout=120)
    return DOCUMENTED_BASE


def bootstrapped(buildah: Buildah) -> str:
    """Make a Debian with the Python of its own, by mmdebstrap."""
    archive = buildah.storage / "debian.tar"
    packages = "python3,python3-venv,ca-certificates"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", "trixie", str(archive)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    container = buildah("from", "scratch")
    buildah("add", container, str(archive), "/")
    buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
    buildah("commit", "--rm", container, "localhost/ledgergate-test-base")
    archive.unlink()
    return "localhost/ledgergate-test-base"


def pip_settings() -> dict[str, str]:
    """Return how this machine's pip reaches a package index."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    pairs = (line.split("=", 1) for line in listed.stdout.splitlines())
    return {name.rpartition(".")[2]: ast.literal_eval(value) for name, value in pairs}


def secrets(directory: Path) -> list[str]:
    """Hand pip's settings over the way the Dockerfile documents: they are no part of it, nor of the image."""
    settings = pip_settings()
    lines = {name: value.replace("\n", "\n  ") for name, value in settings.items() if name in NETWORK_SETTINGS}
    flags = []
    if "cert" in settings:
        lines["cert"] = "/run/secrets/certificates"
        flags += ["--secret", f"id=certificates,src={settings['cert']}"]
    configuration = directory / "pip.conf"
    configuration.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items()))
    return [*flags, "--secret", f"id=pip,src={configuration}"]


def build(buildah: Buildah, base: str, tag: str) -> str:
    """Build with the dates of the builder's own set, as the Dockerfile says, and nothing kept from another build."""
    arguments = ("--build-arg", f"BASE={base}", "--build-arg", "REVISION=0123abc", *secrets(buildah.storage))
    fresh = ("--no-cache", "--timestamp", "0", "--isolation", "chroot")
    buildah("build", *fresh, *arguments, "--tag", tag, str(CHECKOUT))
    return tag


@pytest.fixture(scope="module")
def image(buildah: Buildah, base: str) -> str:
    return build(buildah, base, "localhost/ledgergate:test")


@pytest.fixture(scope="module")
def container(buildah: Buildah, image: str) -> str:
    return buildah("from", image)


def run(buildah: Buildah, container: str, *command: str) -> str:
    return buildah("run", "--isolation", "chroot", container, "--", *command)


def test_the_command_explains_itself(buildah: Buildah, container: str) -> None:
    """The entry point's program runs in the image, as the unprivileged user of the manifests."""
    assert "migrate" in run(buildah, container, "/opt/ledgergate/bin/ledgergate", "--help")
    assert run(buildah, container, "id", "-u") == "65532"


def test_our_packages_come_from_the_wheel(buildah: Buildah, container: str) -> None:
    """The wheel brings three top-level packages, and a directory `migrations` where the process stands hides none."""
    script = """
import importlib, importlib.metadata, json
files = importlib.metadata.files("ledgergate")
own = {file.parts[0] for file in files if file.parts[0] != ".." and "dist-info" not in file.parts[0]}
print(json.dumps({name: importlib.import_module(name).__file__ for name in own}))
"""
    stand = "mkdir -p /tmp/app/migrations && touch /tmp/app/migrations/__init__.py && cd /tmp/app"
    origins = json.loads(run(buildah, container, "sh", "-c", f'{stand} && exec {PYTHON} -c "$0"', script))
    assert sorted(origins) == ["certs", "migrations", "webhook"]
    assert all(path.startswith("/opt/ledgergate/lib/") for path in origins.values())


def test_the_product_is_compiled_and_cannot_change(buildah: Buildah, container: str) -> None:
    """Nothing below /opt/ledgergate is writable for the image's user; every module has its bytecode."""
    assert run(buildah, container, "find", "/opt/ledgergate", "-writable", "-not", "-type", "l") == ""
    script = """
import importlib.util, pathlib, sysconfig
for package in ("webhook", "migrations", "certs"):
    for path in pathlib.Path(sysconfig.get_path("purelib"), package).rglob("*.py"):
        if not pathlib.Path(importlib.util.cache_from_source(path)).exists():
            print(path)
"""
    assert run(buildah, container, PYTHON, "-c", script) == ""


def test_the_image_says_what_it_is_and_gives_nothing_away(buildah: Buildah, image: str) -> None:
    """Entry point, user and labels are set; no setting of the machine that built it is in there."""
    described = buildah("inspect", "--type", "image", image)
    config: dict[str, Any] = json.loads(described)["OCIv1"]["config"]
    assert config["Entrypoint"] == ["/opt/ledgergate/bin/ledgergate"]
    assert config["User"] == "65532:65532"
    assert {"PYTHONSAFEPATH=1", "PYTHONDONTWRITEBYTECODE=1"} <= set(config["Env"])
    labels = {name.rpartition(".image.")[2]: value for name, value in config["Labels"].items()}
    assert (labels["title"], labels["version"], labels["revision"]) == ("ledgergate", version("ledgergate"), "0123abc")
    given_away = [value for name, value in pip_settings().items() if name in NETWORK_SETTINGS - {"timeout"}]
    assert not [value for value in given_away if value in described]


def test_the_same_sources_give_the_same_image(buildah: Buildah, base: str, image: str) -> None:
    """Built again from nothing, every layer has the same digest: what runs can be rebuilt and compared."""
    again = build(buildah, base, "localhost/ledgergate:again")
    assert layers(buildah, again) == layers(buildah, image)


def layers(buildah: Buildah, image: str) -> list[str]:
    found: list[str] = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["rootfs"]["diff_ids"]
    return found


def test_an_image_of_yours_can_have_the_migrator(buildah: Buildah, base: str, image: str, tmp_path: Path) -> None:
    """The Dockerfile of docs/install.md, with the names of this machine, gives an image whose migrator works."""
    (text,) = re.findall(r"```dockerfile\n(.*?)```", (CHECKOUT / "docs/install.md").read_text(), re.DOTALL)
    names = {"registry.example.com/ledgergate:0.1.0": image, "python:3.13-slim": base}
    for name, here in names.items():
        assert name in text
        text = text.replace(name, here)
    (tmp_path / "Dockerfile").write_text(text)
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations/20260101000000_users.sql").write_text("-- migrate:up\nselect 1;\n")
    buildah("build", "--isolation", "chroot", "--tag", "localhost/yours", str(tmp_path))
    yours = buildah("from", "localhost/yours")
    said = run(buildah, yours, "ledgergate", "migrate", "revision", "--dir", "/app/migrations")
    assert said.startswith("20260101000000_users")
    assert run(buildah, yours, "id", "-u") == "65532"


def test_what_make_image_tells(buildah: Buildah, image: str) -> None:
    """Size, packages and the start of the migrator are measured in the image itself; docs/install.md keeps them."""
    runtime = Runtime(["buildah", *buildah.own], image)
    found = content(runtime)
    assert 0 < found["ours"] < found["all"]
    assert ["ledgergate", version("ledgergate")] in found["packages"]
    assert 0 < min(migrate_times(runtime, runs=3)) < 10
    documented = re.search(r"(\d+) MB unpacked, (\d+) MB of it ours", (CHECKOUT / "docs/install.md").read_text())
    assert documented
    assert abs(int(documented[2]) - found["ours"] / 1e6) < 0.1 * found["ours"] / 1e6, "docs/install.md is out of date"
