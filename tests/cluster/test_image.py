"""The image, built from the Dockerfile as it stands, where buildah and a base image can be had."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

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

    def __call__(self, *args: str, timeout: float = 600) -> str:
        """Run a command and return its standard output."""
        own = ("--root", str(self.storage / "root"), "--runroot", str(self.storage / "run"), "--storage-driver", "vfs")
        try:
            done = subprocess.run(
                ["buildah", *own, *args], check=False, capture_output=True, text=True, timeout=timeout
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


@pytest.fixture(scope="module")
def image(buildah: Buildah, base: str) -> str:
    flags = ("--isolation", "chroot", "--build-arg", f"BASE={base}", *secrets(buildah.storage))
    buildah("build", *flags, "--tag", "localhost/ledgergate:test", str(CHECKOUT))
    return "localhost/ledgergate:test"


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
    assert config["Labels"]["org.opencontainers.image.title"] == "ledgergate"
    given_away = [value for name, value in pip_settings().items() if name in NETWORK_SETTINGS - {"timeout"}]
    assert not [value for value in given_away if value in described]
