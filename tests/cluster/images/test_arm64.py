"""The image's packages on arm64, installed from the lock by pip on whatever machine this is."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.images.product import CHECKOUT

AARCH64 = 183
"""e_machine of ELF: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html"""
WHEELS_OF = ("--implementation", "cp", "--python-version", "3.13", "--only-binary", ":all:")
PLATFORMS = [word for libc in ("2_17", "2_28") for word in ("--platform", f"manylinux_{libc}_aarch64")]


@pytest.mark.parametrize(("lock", "megabytes"), [("runner", 40), ("runtime", 75)])
def test_every_locked_package_has_its_wheel(lock: str, megabytes: int, tmp_path: Path) -> None:
    """Each package of the image has its wheel in the hash lock; made small, they stay in the image's bounds."""
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    packages = ("--require-hashes", "--requirement", str(CHECKOUT / f"requirements/{lock}.txt"))
    subprocess.run([*pip, *WHEELS_OF, *PLATFORMS, "--target", str(tmp_path), *packages], check=True, timeout=550)
    subprocess.run([sys.executable, CHECKOUT / "requirements/slim.py", tmp_path], check=True)
    libraries = [path for path in tmp_path.rglob("*.so*") if path.is_file()]
    assert libraries
    assert {_machine(path) for path in libraries} == {AARCH64}
    subprocess.run([sys.executable, "-m", "compileall", "-q", tmp_path], check=True)
    assert sum(path.lstat().st_size for path in tmp_path.rglob("*")) < megabytes * 1e6


def _machine(library: Path) -> int:
    (machine,) = struct.unpack_from("<H", library.read_bytes(), 18)
    return int(machine)
