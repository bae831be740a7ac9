"""The product's own image, built from the Dockerfile as it stands."""

import shutil
from pathlib import Path

from tests.cluster.images.builder import Buildah, pip_secrets

CHECKOUT = Path(__file__).parents[3]
COMMIT = "0123abc"
_COPIED = ("Dockerfile", "LICENSE", "README.md", "pyproject.toml", "requirements", "webhook", "migrations", "certs")


def sources(directory: Path, of: Path = CHECKOUT) -> Path:
    """Copy what a build may see, with dates of its own; `.dockerignore` names the same.

    Args:
        directory: where to; it must not exist.
        of: a checkout, or such a copy.

    Returns:
        The directory.
    """
    directory.mkdir()
    for name in _COPIED:
        if (of / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(of / name, directory / name, ignore=ignored, copy_function=shutil.copy)
        else:
            shutil.copy(of / name, directory)
    return directory


def build(buildah: Buildah, context: Path, base: str, tag: str, *flags: str) -> str:
    """Build with the dates of the builder's own set, as the Dockerfile says, and nothing kept from another build."""
    arguments = ("--build-arg", f"BASE={base}", "--build-arg", f"REVISION={COMMIT}", *pip_secrets(buildah.storage))
    return buildah.build(context, tag, "--no-cache", "--timestamp", "0", *arguments, *flags)
