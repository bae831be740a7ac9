"""The image, built from the Dockerfile as it stands, where buildah and a base image can be had."""

import json
import re
from importlib.metadata import version
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from testbed.cluster.image import LEDGERGATE, PYTHON, Runtime, content, migrate_times, write_kubeconfig
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.ports import free_ports
from testbed.waiting import until
from tests.cluster.images.bases import DOCUMENTED_PYTHON
from tests.cluster.images.builder import PIP_SETTINGS, Buildah, Sealed, pip_settings
from tests.cluster.images.product import CHECKOUT, COMMIT, build, sources

INSTALL = CHECKOUT / "docs/install.md"
SQL = "-- migrate:up\ncreate table users (id int);\n-- migrate:down\ndrop table users;\n"
PY = "async def up(connection):\n    await connection.execute('create table orders (id int)')\n"


@pytest.fixture(scope="module")
def container(buildah: Buildah, image: str) -> str:
    return buildah("from", image)


@pytest.fixture
def root(buildah: Buildah, image: str) -> Path:
    """The files of a container that nothing has run in yet."""
    return Sealed(buildah, image).open()


def test_the_command_explains_itself(buildah: Buildah, container: str) -> None:
    """The entry point's program runs in the image, as the unprivileged user of the manifests."""
    assert "migrate" in buildah.run(container, LEDGERGATE, "--help")
    assert buildah.run(container, "id", "-u") == "65532"


def test_our_packages_come_from_the_wheel(buildah: Buildah, container: str) -> None:
    """The wheel brings three top-level packages, and a directory `migrations` where the process stands hides none."""
    script = """
import importlib, importlib.metadata, json
files = importlib.metadata.files("ledgergate")
own = {file.parts[0] for file in files if file.parts[0] != ".." and "dist-info" not in file.parts[0]}
others = {file.parts[0] for found in importlib.metadata.distributions() if found.name != "ledgergate"
          for file in found.files}
print(json.dumps([{name: importlib.import_module(name).__file__ for name in own}, sorted(own & others)]))
"""
    stand = "mkdir -p /tmp/app/migrations && touch /tmp/app/migrations/__init__.py && cd /tmp/app"
    origins, shared = json.loads(buildah.run(container, "sh", "-c", f'{stand} && exec {PYTHON} -c "$0"', script))
    assert sorted(origins) == ["certs", "migrations", "webhook"]
    assert all(path.startswith("/opt/ledgergate/lib/") for path in origins.values())
    assert shared == []


def test_the_product_is_compiled_and_cannot_change(buildah: Buildah, container: str) -> None:
    """Nothing below /opt/ledgergate is writable for the image's user; every module has its bytecode."""
    assert buildah.run(container, "find", "/opt/ledgergate", "-writable", "-not", "-type", "l") == ""
    script = """
import importlib.util, pathlib, sysconfig
for package in ("webhook", "migrations", "certs"):
    for path in pathlib.Path(sysconfig.get_path("purelib"), package).rglob("*.py"):
        if not pathlib.Path(importlib.util.cache_from_source(path)).exists():
            print(path)
"""
    assert buildah.run(container, PYTHON, "-c", script) == ""


def test_a_sealed_container_is_sealed(buildah: Buildah, image: str, root: Path) -> None:
    """The two tests below rely on it: no file can be written, and no shell be started."""
    sealed = Sealed(buildah, image)
    assert "Read-only file system" in sealed.run(root, PYTHON, "-c", "open('/tmp/file', 'w')")[1]
    assert "PermissionError" in sealed.run(root, PYTHON, "-c", "import subprocess; subprocess.run(['sh'])")[1]
    assert sealed.run(root, PYTHON, "-c", "import os; print(os.getuid(), os.getgid())") == (0, "65532 65532\n")


def test_migrations_need_nothing_writable(buildah: Buildah, image: str, root: Path, database: str) -> None:
    """Migrations in SQL and in Python are applied on a read-only root, without /tmp and without a shell."""
    directory = root / "migrations"
    directory.mkdir()
    (directory / "20260101000000_users.sql").write_text(SQL)
    (directory / "20260102000000_orders.py").write_text(PY)
    sealed, where = Sealed(buildah, image), {"DATABASE_URL": database}
    flags = ("--dir", "/migrations")
    code, said = sealed.run(root, LEDGERGATE, "migrate", "up", *flags, variables=where)
    assert code == 0, said
    assert sealed.run(root, LEDGERGATE, "migrate", "verify", *flags, variables=where)[0] == 0


def test_the_webhook_needs_no_more_than_a_tmp(
    buildah: Buildah, image: str, root: Path, plane: ControlPlane, installation: Installation, tmp_path: Path
) -> None:
    """One more replica becomes ready on a read-only root with the /tmp of the manifests, without a shell."""
    del installation
    write_kubeconfig(plane, root / "kubeconfig")
    tmp_path.chmod(0o1777)
    for above in tmp_path.parents[:2]:
        above.chmod(0o755)
    serving, metrics = (f"127.0.0.1:{port}" for port in free_ports(2))
    where = ("--kubeconfig", "/kubeconfig", "--namespace", "ledgergate")
    how = ("--bind", serving, "--metrics-bind", metrics, "--drain", "0")

    def ready() -> bool:
        assert process.poll() is None, process.communicate()[0]
        try:
            with urlopen(f"http://{metrics}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except URLError:
            return False

    with Sealed(buildah, image).start(root, LEDGERGATE, "webhook", *where, *how, variables={}, tmp=tmp_path) as process:
        try:
            until("the webhook in the image to be ready", ready)
        finally:
            process.terminate()
            process.communicate(timeout=120)
    assert process.returncode == 0


def test_the_image_says_what_it_is_and_gives_nothing_away(buildah: Buildah, image: str) -> None:
    """Entry point, user and labels are set; no setting of the machine that built it is in there."""
    config = buildah.config(image)
    assert config["Entrypoint"] == ["/opt/ledgergate/bin/ledgergate"]
    assert config["User"] == "65532:65532"
    assert {"PYTHONSAFEPATH=1", "PYTHONDONTWRITEBYTECODE=1"} <= set(config["Env"])
    labels = {name.rpartition(".image.")[2]: value for name, value in config["Labels"].items()}
    assert (labels["title"], labels["version"], labels["revision"]) == ("ledgergate", version("ledgergate"), COMMIT)
    described = buildah("inspect", "--type", "image", image)
    given_away = [value for name, value in pip_settings().items() if name in PIP_SETTINGS - {"timeout"}]
    assert not [value for value in given_away if value in described]


def test_the_same_sources_give_the_same_image(
    buildah: Buildah, base: str, image: str, checkout: Path, tmp_path: Path
) -> None:
    """A copy of the sources with other dates, built from nothing, has the same digest: layers, settings, labels."""
    again = build(buildah, sources(tmp_path / "again", of=checkout), base, "localhost/ledgergate:again")
    assert buildah.identity(again) == buildah.identity(image)


def test_an_image_of_yours_can_have_the_migrator(buildah: Buildah, base: str, image: str, tmp_path: Path) -> None:
    """The Dockerfile of docs/install.md, with the names of this machine, gives an image whose migrator works."""
    (text,) = re.findall(r"```dockerfile\n(.*?)```", INSTALL.read_text(), re.DOTALL)
    names = {"registry.example.com/ledgergate:0.1.0": image, DOCUMENTED_PYTHON: base}
    for name, here in names.items():
        assert name in text
        text = text.replace(name, here)
    (tmp_path / "Dockerfile").write_text(text)
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations/20260101000000_users.sql").write_text(SQL)
    yours = buildah("from", buildah.build(tmp_path, "localhost/yours"))
    said = buildah.run(yours, "ledgergate", "migrate", "revision", "--dir", "/app/migrations")
    assert said.startswith("20260101000000_users")
    assert buildah.run(yours, "id", "-u") == "65532"


def test_the_runner_alone_is_small_and_migrates(buildah: Buildah, base: str, checkout: Path, database: str) -> None:
    """The target `migrate` weighs at most 40 MB beside its base, applies migrations, and has no guard."""
    alone = build(buildah, checkout, base, "localhost/ledgergate:migrate", "--target", "migrate")
    found = content(Runtime(["buildah", *buildah.own], alone))
    assert found["ledgergate"] < 40e6
    assert "kubernetes-asyncio" not in {name for name, _ in found["packages"]}
    sealed = Sealed(buildah, alone)
    root = sealed.open()
    (root / "migrations").mkdir()
    (root / "migrations/20260101000000_users.sql").write_text(SQL)
    where = {"DATABASE_URL": database}
    code, said = sealed.run(root, LEDGERGATE, "migrate", "up", "--dir", "/migrations", variables=where)
    assert code == 0, said
    code, said = sealed.run(root, LEDGERGATE, "status")
    assert code == 2
    assert "ledgergate[guard]" in said


def test_what_make_image_prints(buildah: Buildah, image: str) -> None:
    """Size, packages and the start of the migrator are measured in the image itself; docs/install.md keeps them."""
    runtime = Runtime(["buildah", *buildah.own], image)
    found = content(runtime)
    assert 0 < found["ledgergate"] < found["all"]
    assert ["ledgergate", version("ledgergate")] in found["packages"]
    assert "pip" not in {name for name, _ in found["packages"]}
    assert 0 < min(migrate_times(runtime, runs=3)) < 10
    documented = re.search(r"(\d+) MB unpacked, (\d+) MB of it in `/opt/ledgergate`", INSTALL.read_text())
    assert documented
    own = found["ledgergate"] / 1e6
    assert abs(int(documented[2]) - own) < 0.1 * own, "docs/install.md is out of date"
    assert f"| {len(found['packages'])} from the hash lock" in INSTALL.read_text()
