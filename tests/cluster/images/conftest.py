"""What the tests of this folder share: one storage, one base, one build of the image."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cluster.images.bases import NoBaseError, python_base
from tests.cluster.images.builder import Buildah, BuildahError, open_buildah
from tests.cluster.images.product import build, sources


@pytest.fixture(scope="session")
def buildah() -> Iterator[Buildah]:
    """Skipped without buildah, under CI too: it is no Python package, and installing it may need root."""
    if shutil.which("buildah") is None:
        pytest.skip("no image is built: there is no buildah on this machine (apt-get install buildah mmdebstrap)")
    with TemporaryDirectory(prefix="ledgergate-image-") as directory:
        try:
            tool = open_buildah(Path(directory))
        except BuildahError as error:
            pytest.skip(f"no image is built: buildah does not work here ({error})")
        try:
            yield tool
        finally:
            tool("rm", "--all")  # nothing is mounted after that, and the rest is files


@pytest.fixture(scope="session")
def base(buildah: Buildah) -> str:
    """An image with Python: the documented one, else a Debian made on the spot."""
    try:
        return python_base(buildah)
    except NoBaseError as error:
        pytest.skip(f"no image is built: no base image can be had and run here ({error})")


@pytest.fixture(scope="session")
def checkout(buildah: Buildah) -> Path:
    """What the Dockerfile copies, as it was when the tests began: an edit meanwhile is no difference of builds."""
    return sources(buildah.storage / "sources")


@pytest.fixture(scope="session")
def image(buildah: Buildah, base: str, checkout: Path) -> str:
    """The product's image, built once from nothing."""
    return build(buildah, checkout, base, "localhost/ledgergate:test")
