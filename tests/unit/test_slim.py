"""What the image's libraries lose is not missed."""

import shutil
import subprocess
import sys
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import pytest

SLIM = Path(__file__).parents[2] / "requirements/slim.py"
USE = {
    "uvloop": "uvloop.run(__import__('asyncio').sleep(0))",
    "asyncpg": "asyncpg.Record",
    "pglast": "pglast.parse_sql('select 1')",
    "cryptography": "from cryptography.hazmat.primitives.asymmetric import ec; ec.generate_private_key(ec.SECP256R1())",
    "msgspec": "msgspec.json.decode(b'[1]')",
    "aiohttp": "import aiohttp.web; aiohttp.http_parser.HttpRequestParser",
    "kubernetes_asyncio": (
        "from kubernetes_asyncio import client, config; import webhook.kube.leader_election; "
        "[client.V1Lease, client.V1LeaseSpec, client.V1ObjectMeta, client.CoordinationV1Api, config.load_kube_config]"
    ),
}


def copy(package: str, directory: Path) -> Path:
    """Copy an installed package, without bytecode, and return the copy."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    target = directory / package
    shutil.copytree(Path(spec.origin).parent, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("package", sorted(USE))
def test_a_slim_package_works(package: str, tmp_path: Path) -> None:
    """Each library is loaded and used, from its smaller copy; slimming twice changes nothing."""
    slim = copy(package, tmp_path)
    before = size(slim)
    subprocess.run([sys.executable, SLIM, tmp_path], check=True, capture_output=True, timeout=60)
    after = size(slim)
    assert after < before
    subprocess.run([sys.executable, SLIM, tmp_path], check=True, capture_output=True, timeout=60)
    assert size(slim) == after
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import webhook.kube, {package}; {USE[package]}; "
    program += f"assert {package}.__path__[0].startswith({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_file_that_is_no_library_is_left_alone(tmp_path: Path) -> None:
    """A linker script, or an empty file, may be named like one."""
    script = tmp_path / "libm.so"
    script.write_text("GROUP ( libm.so.6 )")
    (tmp_path / "empty.so").touch()
    subprocess.run([sys.executable, SLIM, tmp_path], check=True, capture_output=True, timeout=60)
    assert script.read_text() == "GROUP ( libm.so.6 )"


def test_the_lock_of_the_runner_names_the_packages_of_the_runner() -> None:
    """The lock has every package that the project requires without an extra, and no Kubernetes client."""
    required = [line for line in distribution("ledgergate").requires or () if "extra ==" not in line]
    lock = SLIM.with_name("runner.txt").read_text()
    assert all(f"\n{line.split('>')[0]}==" in f"\n{lock}" for line in required)
    assert "kubernetes-asyncio" not in lock
