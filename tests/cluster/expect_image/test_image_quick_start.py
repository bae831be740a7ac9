"""The quick start's step with an image: its own commands, and the registry of the tests."""

import os
import subprocess
import sys
from pathlib import Path

from testbed.cluster.application import FIRST, LEDGERGATE, Application, migrate
from testbed.waiting import until
from tests.cluster.expect_image.conftest import Images
from tests.pages import marked

DOCKER = """#!{python}
import asyncio, sys
sys.path.insert(0, {root!r})
from testbed.registries.images import Pusher, RegistryImage
words = sys.argv[1:]
labels = dict(words[at + 1].split("=", 1) for at, word in enumerate(words) if word == "--label")
labels |= dict(word[8:].split("=", 1) for word in words if word.startswith("--label="))
name, _, tag = words[words.index("--tag") + 1].partition("/")[2].rpartition(":")
asyncio.run(Pusher({url!r}, name).image(RegistryImage(labels), tag))
"""
"""In place of a builder: pushes an image with the labels and the name that it is given."""


def test_the_image_step_of_the_quick_start(shop: Application, images: Images, database: str, tmp_path: Path) -> None:
    """The page's commands hold the new image's pods in spite of the older annotation; the migration frees them."""
    for file in (tmp_path / "migrations").iterdir():
        if file.stem != FIRST:
            file.unlink()
    shop.gate()  # as the page's step 2 leaves it: it asks no image yet
    shop.deploy("gateway", FIRST, containers=[{"name": "gateway", "image": "app"}])
    shop.await_running("gateway")

    programs = tmp_path / "programs"
    programs.mkdir()
    root = str(Path(__file__).parents[3])
    docker = programs / "docker"
    docker.write_text(DOCKER.format(python=sys.executable, root=root, url=str(images.server.url)))
    docker.chmod(0o755)
    (block,) = marked("quick-start.md", "# run with a registry\n")
    here = block.replace("-n shop", f"-n {shop.namespace}").replace("ledgergate shop", "ledgergate app")
    path = (programs, LEDGERGATE.parent, shop.plane.programs)
    environment = {
        "PATH": os.pathsep.join([*map(str, path), os.defpath]),
        "HOME": str(tmp_path),
        "KUBECONFIG": str(shop.plane.kubeconfig),
        "REGISTRY": images.server.authority,
    }
    command = ["bash", "-euo", "pipefail", "-c", here]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    until("a held pod", lambda: shop.held("gateway"))
    assert len(shop.running("gateway")) == 3, "the pods of the first image stay"
    migrate(tmp_path / "migrations", database)
    shop.await_running("gateway")
