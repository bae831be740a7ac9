"""A `docker` that pushes an image with the labels and the name that it is given, in place of a builder."""

import sys
from pathlib import Path

from testbed.registries.server import Registry

_ROOT = str(Path(__file__).parents[2])
_PROGRAM = """#!{python}
import asyncio, sys
sys.path.insert(0, {root!r})
from testbed.registries.images import Pusher, RegistryImage
words = sys.argv[1:]
labels = dict(words[at + 1].split("=", 1) for at, word in enumerate(words) if word == "--label")
labels |= dict(word[8:].split("=", 1) for word in words if word.startswith("--label="))
name, _, tag = words[words.index("--tag") + 1].partition("/")[2].rpartition(":")
asyncio.run(Pusher({url!r}, name).image(RegistryImage(labels), tag))
"""


def write_docker(directory: Path, registry: Registry) -> None:
    """Write the program into a directory, for the images of one registry."""
    directory.mkdir(parents=True, exist_ok=True)
    docker = directory / "docker"
    docker.write_text(_PROGRAM.format(python=sys.executable, root=_ROOT, url=str(registry.url)))
    docker.chmod(0o755)
