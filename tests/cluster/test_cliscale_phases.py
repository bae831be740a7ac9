"""The example's chart with `migrations.phases`: what runs before the Deployments change, and what after them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from migrations.core.contract import Contract, parse_contracts
from testbed.cluster.cliscale import CHART

if TYPE_CHECKING:
    from pathlib import Path

    Object = dict[str, Any]

CONTRACTS = [
    {"revision": "20250301000000_c", "compatibleFrom": "20250201000000_b"},
    {"revision": "20250302000000_d", "compatibleFrom": "20250201000000_b"},
]
REVISION = "20250201000000_b"


def run(helm: Path, **migrations: object) -> subprocess.CompletedProcess[str]:
    """Render the chart with values of `migrations`."""
    values = ["--set", f"revision={REVISION}", "--set-json", f"migrations={json.dumps(migrations)}"]
    command = [str(helm), "template", "shop", str(CHART), *values]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def render(helm: Path, **migrations: object) -> dict[str, Object]:
    """Return the rendered objects by kind and name."""
    done = run(helm, **migrations)
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in objects}


def migrator(pod: Object) -> tuple[dict[str, str], dict[str, str]]:
    """Return what a pod's migrator says to the guard, and to the command that it runs."""
    (container,) = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]][:1]
    environment = {each["name"]: each["value"] for each in container["env"] if each["name"].startswith("LEDGERGATE_")}
    annotations = pod["metadata"]["annotations"]
    return {name.partition("/")[2]: value for name, value in annotations.items()}, environment


def hooks(job: Object) -> str:
    """Return when helm runs a Job."""
    return str(job["metadata"]["annotations"]["helm.sh/hook"])


def test_a_job_before_and_a_job_after(helm_program: Path) -> None:
    """The first says and does `expand`; the second says what it brings, in the form of `revision`, and does all."""
    objects = render(helm_program, phases=True, contracts=CONTRACTS)
    first, second = objects["Job/shop-migrate"], objects["Job/shop-contract"]
    assert (hooks(first), hooks(second)) == ("pre-install,pre-upgrade", "post-install,post-upgrade")
    assert migrator(first["spec"]["template"]) == (
        {"migrates": "shop", "phase": "expand"},
        {"LEDGERGATE_EXPECT": REVISION, "LEDGERGATE_PHASE": "expand"},
    )
    said, done = migrator(second["spec"]["template"])
    assert parse_contracts(said.pop("contract")) == tuple(Contract(*each.values()) for each in CONTRACTS)
    assert said == {"migrates": "shop"}
    assert done == {"LEDGERGATE_EXPECT": CONTRACTS[-1]["revision"], "LEDGERGATE_PHASE": "contract"}
    assert objects["LedgerGate/shop"]["spec"]["contracts"] == CONTRACTS


def test_the_annotation_has_no_more_contracts_than_the_guard_reads(helm_program: Path) -> None:
    """The annotation has the newest 16 of the 64 that the LedgerGate has."""
    many = [{**CONTRACTS[0], "revision": f"202503010000{number:02}_c"} for number in range(64)]
    objects = render(helm_program, phases=True, contracts=many)
    said, _ = migrator(objects["Job/shop-contract"]["spec"]["template"])
    assert [each.revision for each in parse_contracts(said["contract"])] == [each["revision"] for each in many[-16:]]
    assert objects["LedgerGate/shop"]["spec"]["contracts"] == many


def test_the_init_container_expands_too(helm_program: Path) -> None:
    """Otherwise its pod would wait for its own migration."""
    objects = render(helm_program, phases=True, contracts=CONTRACTS, mode="initContainer")
    said, done = migrator(objects["Deployment/shop-controller"]["spec"]["template"])
    assert said == {"revision": REVISION, "migrates": "shop", "phase": "expand"}
    assert done == {"LEDGERGATE_EXPECT": REVISION, "LEDGERGATE_PHASE": "expand"}
    assert "Job/shop-migrate" not in objects
    assert hooks(objects["Job/shop-contract"]) == "post-install,post-upgrade"


def test_jobs_by_hand_say_what_they_bring(helm_program: Path) -> None:
    """The manual migration brings everything; a rollback brings nothing."""
    objects = render(helm_program, phases=True, contracts=CONTRACTS)
    pods = {name: objects[f"CronJob/manual-{name}"]["spec"]["jobTemplate"]["spec"] for name in ("migrate", "rollback")}
    said, done = migrator(pods["migrate"]["template"])
    assert set(said) == {"migrates", "contract"}
    assert done == {"LEDGERGATE_PHASE": "contract"}
    assert migrator(pods["rollback"]["template"]) == ({"migrates": "shop"}, {})


def test_without_contracts_there_is_no_second_job(helm_program: Path) -> None:
    """It would have nothing to apply; without `phases` the chart renders nothing of phases or contracts."""
    objects = render(helm_program, phases=True)
    assert "Job/shop-contract" not in objects
    assert migrator(objects["Job/shop-migrate"]["spec"]["template"])[0]["phase"] == "expand"
    plain = render(helm_program)
    assert not any(word in json.dumps(plain) for word in ("phase", "PHASE", "contract"))
    assert plain.keys() == objects.keys()


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"contracts": CONTRACTS}, "/migrations/phases"),
        ({"phases": "yes"}, "/migrations/phases"),
        ({"phases": True, "contracts": [{"revision": "a"}]}, "/migrations/contracts/0"),
        (
            {"phases": True, "contracts": [{"revision": "a b", "compatibleFrom": "a"}]},
            "/migrations/contracts/0/revision",
        ),
    ],
)
def test_values_that_cannot_work_are_refused(helm_program: Path, values: Object, complaint: str) -> None:
    """Contracts without phases would wait for pods that wait for them; a name with a blank would count as two."""
    done = run(helm_program, **values)
    assert done.returncode != 0
    assert complaint in done.stderr
