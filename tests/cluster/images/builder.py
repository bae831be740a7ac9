"""Buildah, and what a build needs of this machine: its way to the package registries.

Exception
└── BuildahError    a command of buildah failed or took too long; the message ends with what it said
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

PIP_SETTINGS = {"index-url", "extra-index-url", "trusted-host", "proxy", "timeout"}
NPM_SETTINGS = {"registry", "proxy", "https-proxy"}
CERTIFICATES = "/run/secrets/certificates"
DRIVERS = ("overlay", "vfs")
"""The first copies nothing of the layers below, the second works everywhere."""

# A container as the manifests ask for it, and stricter: another root whose every file is read-only and whose shells are
# no programs. Words: the root, a directory for /tmp (or nothing), user and group, the image's PATH, the command.
SEAL = """
root=$1 user=$3 path=$4 chroot=$(command -v chroot)
mount --bind "$root" "$root"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
if [ -n "$2" ]; then mount --bind "$2" "$root/tmp"; fi
for shell in sh bash dash; do
    if [ -e "$root/usr/bin/$shell" ]; then mount --bind /dev/null "$root/usr/bin/$shell"; fi
done
mount -o remount,bind,ro "$root"
shift 4
PATH=$path exec "$chroot" --userspec="$user" --groups="${user#*:}" "$root" "$@"
"""


class BuildahError(Exception):
    """A command of buildah failed or took too long."""


@dataclass(frozen=True, slots=True)
class Buildah:
    """Buildah with a storage of its own, without daemon and without network namespaces.

    Args:
        storage: an existing directory.
        driver: how it keeps layers, one of DRIVERS.
    """

    storage: Path
    driver: str

    @property
    def own(self) -> tuple[str, ...]:
        """The flags of its storage."""
        root, run = (str(self.storage / f"{self.driver}-{name}") for name in ("root", "run"))
        return ("--root", root, "--runroot", run, "--storage-driver", self.driver)

    def __call__(self, *args: str, timeout: float = 600) -> str:
        """Run a command and return its standard output.

        Raises:
            BuildahError: it failed, or was not done after `timeout` seconds.
        """
        try:
            done = subprocess.run(
                ["buildah", *self.own, *args], check=False, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired as late:
            raise BuildahError(f"buildah {args[0]}: not done after {timeout:g} s") from late
        if done.returncode:
            raise BuildahError(f"buildah {args[0]}: {done.stderr.strip()[-3000:]}")
        return done.stdout.strip()

    def build(self, context: Path, tag: str, *flags: str) -> str:
        """Build a directory's Dockerfile; returns the tag."""
        self("build", "--isolation", "chroot", *flags, "--tag", tag, str(context))
        return tag

    def run(self, container: str, *command: str, variables: Mapping[str, str] | None = None) -> str:
        """Run a command in a container, as the image's user, with the machine's network; returns what it printed."""
        flags = [word for name, value in (variables or {}).items() for word in ("--env", f"{name}={value}")]
        return self("run", "--isolation", "chroot", *flags, container, "--", *command)

    def config(self, image: str) -> dict[str, Any]:
        """Return an image's configuration (OCI)."""
        found: dict[str, Any] = json.loads(self("inspect", "--type", "image", image))["OCIv1"]["config"]
        return found

    def identity(self, image: str) -> str:
        """Return the digest of an image's configuration, which has the digests of its layers."""
        found: str = json.loads(self("inspect", "--type", "image", image))["FromImageID"]
        return found


@dataclass(frozen=True, slots=True)
class Sealed:
    """A container of an image, of which a process sees a read-only root and no shell.

    Args:
        buildah: has the image.
        image: its name.
    """

    buildah: Buildah
    image: str

    def open(self) -> Path:
        """Make the container; returns its root, to put files into before anything runs."""
        return Path(self.buildah("mount", self.buildah("from", self.image)))

    def start(
        self, root: Path, *command: str, variables: Mapping[str, str], tmp: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a command as the image's user, in the image's environment.

        Args:
            root: what `open` gave.
            command: a program of the image, and its arguments.
            variables: the environment, beside the image's.
            tmp: what is mounted as /tmp, writable; without it nothing is.
        """
        config = self.buildah.config(self.image)
        environment = dict(variable.split("=", 1) for variable in config["Env"])
        words = [str(root), str(tmp or ""), config["User"], environment["PATH"], *command]
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-euc", SEAL, "seal", *words],
            # HOME: as runc sets it for a user whom the image does not name.
            env={"HOME": "/", **environment, **variables, "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, root: Path, *command: str, variables: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a command to its end; returns its exit code and what it printed."""
        with self.start(root, *command, variables=variables or {}) as process:
            try:
                said, _ = process.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return process.returncode, said


def pip_settings() -> dict[str, str]:
    """Return the settings by which this machine's pip reaches a package index."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    pairs = (line.split("=", 1) for line in listed.stdout.splitlines())
    return {name.rpartition(".")[2]: ast.literal_eval(value) for name, value in pairs}


def pip_secrets(directory: Path) -> list[str]:
    """Hand pip's settings over the way the Dockerfile documents: they are no part of it, nor of the image."""
    settings = pip_settings()
    lines = {name: value.replace("\n", "\n  ") for name, value in settings.items() if name in PIP_SETTINGS}
    flags = []
    if "cert" in settings:
        lines["cert"] = CERTIFICATES
        flags += ["--secret", f"id=certificates,src={settings['cert']}"]
    configuration = directory / "pip.conf"
    configuration.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items()))
    return [*flags, "--secret", f"id=pip,src={configuration}"]


def npm_secrets(directory: Path) -> list[str]:
    """Hand npm's settings over in the same way; a machine without npm has none."""
    if shutil.which("npm") is None:
        return []
    listed = subprocess.run(["npm", "config", "list", "--json"], check=True, capture_output=True, text=True)
    settings: dict[str, Any] = json.loads(listed.stdout)
    lines = {name: settings[name] for name in NPM_SETTINGS if settings.get(name)}
    flags = []
    if settings.get("cafile"):
        lines["cafile"] = CERTIFICATES
        flags += ["--secret", f"id=certificates,src={settings['cafile']}"]
    configuration = directory / "npmrc"
    configuration.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return [*flags, "--secret", f"id=npm,src={configuration}"]


def open_buildah(directory: Path) -> Buildah:
    """Make a storage with the first driver that works here.

    Args:
        directory: where; nothing below it is mounted when buildah has ended.

    Raises:
        BuildahError: none works; the message says why, driver by driver.
    """
    refusals = []
    for driver in DRIVERS:
        tool = Buildah(Path(mkdtemp(dir=directory)), driver)
        try:
            container = tool("from", "scratch")
            tool("mount", container)
            tool("rm", container)
        except BuildahError as error:
            refusals.append(f"{driver}: {error}")
        else:
            return tool
    raise BuildahError("; ".join(refusals))
