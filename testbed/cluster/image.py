"""Size, packages and start-up time of a ledgergate image, printed by `make image`.

It is measured inside the container, without the time of the container runtime.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.cluster.installation import Installation
from testbed.controlplane import ALL, ControlPlane
from testbed.controlplane.provision import programs_here
from testbed.ports import free_ports
from testbed.postgres import Postgres, create_database

PYTHON = "/opt/ledgergate/bin/python"
LEDGERGATE = "/opt/ledgergate/bin/ledgergate"
RUNS = 9
MIGRATIONS = 100
CONTENT = """
import importlib.metadata, json, os, platform
def weigh(top):
    here = os.stat(top).st_dev
    found = {}
    for folder, folders, files in os.walk(top):
        folders[:] = [f for f in folders if os.lstat(os.path.join(folder, f)).st_dev == here]
        for name in files:
            status = os.lstat(os.path.join(folder, name))
            if status.st_dev == here:
                found[status.st_ino] = status.st_size
    return sum(found.values())
packages = sorted((d.name, d.version) for d in importlib.metadata.distributions())
print(json.dumps({"all": weigh("/"), "ledgergate": weigh("/opt/ledgergate"), "packages": packages,
                  "python": platform.python_version()}))
"""
# Seconds from a process's start to its end, or to the first good answer of a probe.
START = """
import json, subprocess, sys, time, urllib.request
runs, url, *command = sys.argv[1:]
found = []
for _ in range(int(runs)):
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while url and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            break
        except OSError:
            time.sleep(0.002)
    if url:
        found.append(time.perf_counter() - began)
        process.kill()
    _, said = process.communicate()
    if not url:
        found.append(time.perf_counter() - began)
    if process.returncode not in ((-9,) if url else (0,)):
        sys.exit(said.decode())
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A tool that runs containers: docker, podman or buildah.

    Args:
        command: the tool with its flags.
        image: name of the image.
    """

    command: Sequence[str]
    image: str

    def run(self, *words: str, mounts: dict[Path, str] | None = None, variables: dict[str, str] | None = None) -> str:
        """Run a command in a container and return its standard output; it has the machine's network.

        Raises:
            RuntimeError: it failed; the message has its output.
        """
        flags = [
            *(flag for source, target in (mounts or {}).items() for flag in ("--volume", f"{source}:{target}:ro")),
            *(flag for name, value in (variables or {}).items() for flag in ("--env", f"{name}={value}")),
        ]
        if Path(self.command[0]).name == "buildah":
            container = self._call("from", self.image).strip()
            try:
                return self._call("run", "--isolation", "chroot", *flags, container, "--", *words)
            finally:
                self._call("rm", container)
        start = ("run", "--rm", "--network", "host", *flags, "--entrypoint", words[0])
        return self._call(*start, self.image, *words[1:])

    def _call(self, *words: str) -> str:
        done = subprocess.run([*self.command, *words], check=False, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{self.command[0]} {words[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def content(runtime: Runtime) -> dict[str, Any]:
    """Return the bytes of `all` and of `ledgergate` (/opt/ledgergate), `packages` as pairs, the version of `python`."""
    found: dict[str, Any] = json.loads(runtime.run(PYTHON, "-c", CONTENT))
    return found


def migrate_times(runtime: Runtime, *, runs: int = RUNS) -> list[float]:
    """Measure `migrate up` with nothing pending of a hundred migrations, in seconds."""
    with Postgres() as server, _directory() as directory:
        for number in range(MIGRATIONS):
            table = f"table_{number}"
            sql = f"-- migrate:up\ncreate table {table} (id int);\n\n-- migrate:down\ndrop table {table};\n"
            (directory / f"202601010000{number:02}_{table}.sql").write_text(sql)
        command = (LEDGERGATE, "migrate", "up", "--dir", "/migrations")
        where = {"DATABASE_URL": create_database(server.url())}
        mounts = {directory: "/migrations"}
        runtime.run(*command, mounts=mounts, variables=where)
        return _times(runtime, runs, "", command, mounts, where)


def write_kubeconfig(plane: ControlPlane, path: Path) -> None:
    """Write the webhook's kubeconfig for use in a container, with all certificates inline."""
    own = plane.kubeconfig_for("ledgergate", "webhook")
    path.write_text(plane.kubectl("config", "view", "--raw", "--flatten", f"--kubeconfig={own}"))
    path.chmod(0o644)


def webhook_times(runtime: Runtime, programs: Path, *, runs: int = 3) -> list[float]:
    """Measure the start of one more webhook replica until it is ready, in seconds."""
    with ControlPlane(programs) as plane, Installation(plane), _directory() as directory:
        write_kubeconfig(plane, directory / "kubeconfig")
        serving, metrics = (f"127.0.0.1:{port}" for port in free_ports(2))
        command = (LEDGERGATE, "webhook", "--kubeconfig", "/plane/kubeconfig", "--namespace", "ledgergate")
        binds = ("--bind", serving, "--metrics-bind", metrics)
        return _times(runtime, runs, f"http://{metrics}/readyz", (*command, *binds), {directory: "/plane"}, {})


def report(runtime: Runtime) -> Iterator[str]:
    """Yield the lines of the report on an image."""
    found = content(runtime)
    own, base = found["ledgergate"], found["all"] - found["ledgergate"]
    sizes = f"{own / 1e6:.0f} MB ledgergate, {base / 1e6:.0f} MB the base"
    yield f"size       {found['all'] / 1e6:.0f} MB unpacked: {sizes}"
    names = ", ".join(f"{name} {version}" for name, version in found["packages"])
    yield f"packages   Python {found['python']}; {len(found['packages'])} in /opt/ledgergate: {names}"
    yield f"start      migrate up, nothing pending of {MIGRATIONS}: {_words(migrate_times(runtime))}"
    programs = programs_here(ALL)
    if programs is None:
        yield "start      webhook ready: not measured, the test control plane is not built yet (make test builds it)"
    else:
        yield f"start      webhook ready, one more replica: {_words(webhook_times(runtime, programs))}"


def main() -> int:
    """Print the report; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m testbed.cluster.image", description=__doc__)
    parser.add_argument("image")
    parser.add_argument("runtime", nargs="+", help="docker, podman or buildah, and flags of its own")
    arguments = parser.parse_args()
    for line in report(Runtime(arguments.runtime, arguments.image)):
        print(line, flush=True)
    return 0


def _times(
    runtime: Runtime,
    runs: int,
    url: str,
    command: Sequence[str],
    mounts: dict[Path, str],
    variables: dict[str, str],
) -> list[float]:
    found: list[float] = json.loads(
        runtime.run(PYTHON, "-c", START, str(runs), url, *command, mounts=mounts, variables=variables)
    )
    return found


def _words(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.2f} s (median of {len(times)}; best {min(times):.2f})"


@contextmanager
def _directory() -> Iterator[Path]:
    """Yield a directory that the image's user may read."""
    with tempfile.TemporaryDirectory(prefix="ledgergate-image-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


if __name__ == "__main__":
    sys.exit(main())
