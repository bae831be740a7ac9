"""The example's own image: built by the steps of its workflow, with the real npm, and used as the chart uses it."""

import os
import re
import shlex
import subprocess

import pytest
import yaml

from testbed.cluster.cliscale import CHART, EXAMPLE, ledger, secret
from tests.cluster.images.bases import NoBaseError, node_base
from tests.cluster.images.builder import Buildah, npm_secrets
from tests.cluster.images.product import COMMIT

pytestmark = pytest.mark.examples

MIGRATIONS = sorted(path.name for path in (EXAMPLE / "controller/src/migrations").iterdir())
REGISTRY = "registry.example.com"
HEAD = MIGRATIONS[-1].removesuffix(".js")
# The workflow's docker is buildah here, which takes the same words, but for `run` and --push.
DOCKER = """
docker_run() {
    [ "$1 $2" = "--rm --volume" ]
    local container; container=$(buildah from "$4")
    buildah run --isolation chroot --volume "$3" "$container" -- /opt/ledgergate/bin/ledgergate "${@:5}"
    buildah rm "$container" >/dev/null
}
docker_build() { command buildah $STORAGE build --isolation chroot $MACHINE "${@/#--push/--quiet}"; }
buildah() { command buildah $STORAGE "$@"; }
docker() { "docker_$1" "${@:2}"; }
"""


@pytest.fixture(scope="module")
def node(buildah: Buildah, base: str) -> str:
    """An image with Node.js and npm."""
    try:
        return node_base(buildah, base)
    except NoBaseError as error:
        pytest.skip(f"the example's image is not built: there is no base with Node.js ({error})")


@pytest.fixture(scope="module")
def built(buildah: Buildah, base: str, node: str, image: str) -> str:
    """The image that the workflow makes of the example, on the bases of this machine."""
    (job,) = yaml.safe_load((EXAMPLE / ".github/workflows/deploy.yaml").read_text())["jobs"].values()
    steps = {step.get("name"): step.get("run") for step in job["steps"]}
    known = {"${{ vars.REGISTRY }}": REGISTRY, "${{ github.sha }}": COMMIT}
    environment = {name: re.sub(r"\${{.*?}}", lambda found: known[found[0]], text) for name, text in job["env"].items()}
    buildah("tag", image, environment["LEDGERGATE"])
    # The Dockerfile's default names no image that a runner of GitHub would have.
    bases = {"LEDGERGATE": "localhost/not-there", "PYTHON": base, "NODE": node}
    machine = [word for name, value in bases.items() for word in ("--build-arg", f"{name}={value}")]
    said = buildah.storage / "github-environment"
    environment |= {
        "PATH": os.environ["PATH"],
        "HOME": str(buildah.storage),
        "STORAGE": shlex.join(buildah.own),
        "MACHINE": shlex.join([*machine, *npm_secrets(buildah.storage)]),
        "GITHUB_ENV": str(said),
    }
    for name in ("Find the expected revision", "Build and push"):
        # As GitHub runs a step: with -e. The next step has the variables that this one writes to GITHUB_ENV.
        command = ["bash", "-e", "-c", f"{DOCKER}\n{steps[name]}"]
        done = subprocess.run(
            command, cwd=EXAMPLE, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        environment |= dict(line.split("=", 1) for line in said.read_text().splitlines())
    return f"{REGISTRY}/cliscale/controller:{COMMIT}"


@pytest.fixture
def container(buildah: Buildah, built: str) -> str:
    return buildah("from", built)


def variables(database: str) -> dict[str, str]:
    """Return the environment that the chart gives to a container that migrates."""
    names = {
        "host": ("DB_HOST", "PGHOST"),
        "port": ("DB_PORT", "PGPORT"),
        "database": ("DB_NAME", "PGDATABASE"),
        "username": ("DB_USER", "PGUSER"),
        "password": ("DB_PASSWORD", "PGPASSWORD"),
    }
    known = {name: value for key, value in secret(database).items() for name in names[key]}
    return {"NODE_ENV": "production", **known}


async def test_the_image_migrates(buildah: Buildah, built: str, container: str, database: str) -> None:
    """The chart's commands, as the image's user: applied by the real Knex, nothing to do after that, and undone."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())["migrations"]
    where = variables(database)
    assert "Batch 1 run: 3 migrations" in buildah.run(container, *values["command"], variables=where)
    assert await ledger(database) == MIGRATIONS
    expected = buildah.config(built)["Labels"]["dev.ledgergate.revision"]
    assert expected.startswith(f"{HEAD}+{len(MIGRATIONS)}.")
    again = buildah.run(container, *values["command"], variables={**where, "LEDGERGATE_EXPECT": expected})
    assert "Batch" not in again
    buildah.run(container, *values["rollbackCommand"], variables=where)
    assert await ledger(database) == []


async def test_what_people_run_in_the_image(buildah: Buildah, container: str, database: str) -> None:
    """Psql, npm and ledgergate work in a running container: by the pod's variables, the image's scripts and files."""
    where = variables(database)
    assert buildah.run(container, "psql", "-Atc", "select current_database()", variables=where) == where["DB_NAME"]
    assert MIGRATIONS[0] in buildah.run(container, "npm", "run", "knex", "migrate:list", variables=where)
    said = buildah.run(container, "ledgergate", "migrate", "revision", "--dialect", "knex", "--dir", "src/migrations")
    assert said.startswith(f"{HEAD}+")
    assert buildah.run(container, "id", "-u") == "65532"
