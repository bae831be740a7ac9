"""Labels of a directory reach a registry by a real builder; what docs/image-labels.md shows of others is passed on."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from testbed.registries.server import Registry
from tests.cluster.images.builder import Buildah, BuildahError, open_buildah
from tests.pages import blocks, walk
from webhook.registries.client import RegistryClient
from webhook.registries.result import ImageLabels

PAGE = "image-labels.md"
SHIM = """#!{python}
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]), file=calls)
if sys.argv[1] == "template":
    print({manifest!r})
"""
MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway}
spec: {template: {spec: {containers: [{name: app}]}}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with migrations of ledgergate and of Knex, and a Dockerfile."""
    for name, text in (
        ("migrations/20250101000000_a.sql", "-- migrate:up\nselect 1;"),
        ("migrations/20250201000000_b.sql", "-- migrate:up contract compatible-from:20250101000000_a\nselect 1;"),
        ("db/migrations/20250101000000_a.js", ""),
        ("Dockerfile", "FROM scratch\nCOPY migrations /migrations\n"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def shell(project: Path) -> dict[str, str]:
    """An environment with ledgergate, and with programs that write down how they are called."""
    programs = project / "bin"
    programs.mkdir()
    for name in ("docker", "helm"):
        (programs / name).write_text(SHIM.format(python=sys.executable, manifest=MANIFEST))
        (programs / name).chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(project), "CALLS": str(project / "calls")}


def test_docker_gets_each_label_as_one_argument(project: Path, shell: dict[str, str]) -> None:
    """The page's commands, run by a shell: no label is split, and none is lost."""
    walk(PAGE, project, shell)
    calls = [json.loads(line) for line in (project / "calls").read_text().splitlines()]
    labels = [[word for before, word in pairwise(call) if before == "--label"] for call in calls if call[0] == "docker"]
    native = [
        "dev.ledgergate.revision=20250101000000_a+1.5234a921d098",
        "dev.ledgergate.contract=20250201000000_b:20250101000000_a",
    ]
    knex = ["dev.ledgergate.revision=20250101000000_a+1.5234a921d098"]
    assert labels == [native, native, knex, ["dev.ledgergate.revision=7_orders"]]
    (values,) = [word for call in calls for word in call if word.startswith("podAnnotations=")]
    assert json.loads(values.partition("=")[2])["ledgergate.dev/contract"] == "20250201000000_b:20250101000000_a"
    assert '"ledgergate.dev/revision": "20250101000000_a+1.5234a921d098"' in (project / "annotated.yaml").read_text()


def test_pipelines_pass_the_labels_on(project: Path, shell: dict[str, str]) -> None:
    """The build commands of the page's GitHub workflow and Skaffold file, run by a shell as those do."""
    workflow, skaffold = (yaml.safe_load(block) for block in blocks(PAGE, "yaml")[:2])
    build = workflow["jobs"]["image"]["steps"][-1]["run"].replace("${{ github.sha }}", "0a1b2c")
    custom = skaffold["build"]["artifacts"][0]["custom"]["buildCommand"]
    for command in (build, custom):
        (project / "calls").write_text("")
        variables = {**shell, "IMAGE": "shop/gateway:0a1b2c", "BUILD_CONTEXT": "."}
        subprocess.run(["sh", "-ec", command], cwd=project, env=variables, check=True, timeout=120)
        (call,) = map(json.loads, (project / "calls").read_text().splitlines())
        assert call == [
            "docker",
            "build",
            "--label",
            "dev.ledgergate.revision=20250101000000_a+1.5234a921d098",
            "--label",
            "dev.ledgergate.contract=20250201000000_b:20250101000000_a",
            "--tag",
            "shop/gateway:0a1b2c",
            ".",
        ]


@pytest.fixture
def buildah() -> Iterator[Buildah]:
    """Skipped without buildah."""
    if shutil.which("buildah") is None:
        pytest.skip("no image is built: there is no buildah on this machine (apt-get install buildah)")
    with TemporaryDirectory(prefix="ledgergate-labels-") as directory:
        try:
            yield open_buildah(Path(directory))
        except BuildahError as error:
            pytest.skip(f"no image is built: buildah does not work here ({error})")


async def test_buildah_builds_what_the_client_reads(
    project: Path, shell: dict[str, str], buildah: Buildah, registry: Registry, client: RegistryClient
) -> None:
    """The page's command builds an image; pushed to a registry, it says what its directory needs and breaks."""
    flags = " ".join(buildah.own)
    (project / "bin" / "buildah").write_text(f'#!/bin/sh\nexec {shutil.which("buildah")} {flags} "$@"\n')
    (project / "bin" / "buildah").chmod(0o755)
    walk(PAGE, project, shell, "# run with buildah\n")
    reference = f"{registry.authority}/shop/gateway:2"
    buildah("push", "--tls-verify=false", "shop/gateway:2", f"docker://{reference}")
    found = await client.read(reference)
    assert isinstance(found, ImageLabels), str(found)
    assert found.revision == "20250101000000_a+1.5234a921d098"
    assert found.contract == "20250201000000_b:20250101000000_a"
