"""`ledgergate image REF`, against a real registry server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from testbed.registries.images import REVISION, Pusher, RegistryImage
from testbed.registries.server import PASSWORD, USER, Registry
from webhook.cli.main import main

LABELS = {REVISION: "1_a", "dev.ledgergate.contract": "2_b:1_a"}


def run(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: it starts an event loop."""
    return subprocess.run(
        [sys.executable, "-c", "from webhook.cli.entry_point import main; main()", "image", *arguments],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


async def test_what_an_image_says(registry: Registry, pusher: Pusher, repository: str, tmp_path: Path) -> None:
    """As lines and as JSON, with the digest."""
    digest = await pusher.image(RegistryImage(LABELS), "1")
    reference = f"{registry.authority}/{repository}:1"
    done = run(tmp_path, reference, "--plain-http", registry.authority)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"image      {registry.authority}/{repository}@{digest}",
        "platforms  linux/amd64",
        "needs      1_a",
        "brings     2_b, after which images older than 1_a cannot run",
    ]
    done = run(tmp_path, reference, "-o", "json", LEDGERGATE_PLAIN_HTTP=registry.authority)
    assert json.loads(done.stdout) == {
        "image": f"{registry.authority}/{repository}@{digest}",
        "digest": digest,
        "platforms": {"linux/amd64": digest},
        "revision": "1_a",
        "contracts": [{"revision": "2_b", "compatible_from": "1_a"}],
        "ancestors": None,
    }


async def test_an_image_that_says_nothing(registry: Registry, pusher: Pusher, repository: str, tmp_path: Path) -> None:
    """Exit 0, and how to build one that does."""
    await pusher.image(RegistryImage({}), "1")
    done = run(tmp_path, f"{registry.authority}/{repository}:1", "--plain-http", registry.authority)
    assert done.returncode == 0
    assert "needs      nothing that it says" in done.stdout
    assert "docker build $(ledgergate migrate revision --output labels) ." in done.stderr


async def test_the_docker_login_is_used(private_image: tuple[Registry, str], ca_file: Path, tmp_path: Path) -> None:
    """That of ~/.docker, of DOCKER_CONFIG and of podman; a file that cannot be read is named."""
    server, reference = private_image
    login = json.dumps({"auths": {server.authority: {"username": USER, "password": PASSWORD}}})
    for place, variables in (
        (tmp_path / ".docker/config.json", {}),
        (tmp_path / "elsewhere/config.json", {"DOCKER_CONFIG": str(tmp_path / "elsewhere")}),
        (tmp_path / "run/containers/auth.json", {"XDG_RUNTIME_DIR": str(tmp_path / "run")}),
    ):
        place.parent.mkdir(parents=True)
        place.write_text(login)
        done = run(tmp_path, reference, "--ca-file", str(ca_file), **variables)
        assert done.returncode == 0, done.stderr
        place.write_text("nonsense")
        done = run(tmp_path, reference, "--ca-file", str(ca_file), **variables)
        assert done.returncode == 2
        assert f"{place}: expected JSON" in done.stderr
        place.unlink()
    done = run(tmp_path, reference, "--ca-file", str(ca_file))
    assert done.returncode == 2
    assert "docker login" in done.stderr


def test_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    """Exit 4 where the registry does not answer, else 2, with what to do."""
    done = run(tmp_path, "localhost:1/x", "--timeout", "5")
    assert done.returncode == 4, done.stderr
    assert "localhost:1 cannot be reached" in done.stderr
    done = run(tmp_path, "https://ghcr.io/x")
    assert done.returncode == 2
    assert "expected NAME, NAME:TAG" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "REF"),
        (("x", "--platform", "linux"), "expected a platform such as linux/amd64"),
        (("x", "-o", "xml"), "json"),
        (("x", "--plain-http", "http://x"), "HOST[:PORT]"),
    ],
)
def test_bad_usage(arguments: tuple[str, ...], says: str) -> None:
    """Exit 2 and what is expected."""
    done = CliRunner().invoke(main, ["image", *arguments])
    assert done.exit_code == 2
    assert says in done.output
