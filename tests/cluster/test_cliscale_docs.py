"""The files beside the example's chart (its Jobs, Skaffold's file, the workflow) fit the chart."""

import re

import pytest
import yaml

from testbed.cluster.cliscale import EXAMPLE
from testbed.cluster.helm import Helm


def test_manifests_of_the_example_are_whole() -> None:
    """Skaffold's file and the workflow can be read, and every file that they name exists."""
    skaffold = yaml.safe_load((EXAMPLE / "skaffold.yaml").read_text())
    (release,) = skaffold["deploy"]["helm"]["releases"]
    named = [
        release["chartPath"],
        *release["valuesFiles"],
        *(each["context"] for each in skaffold["build"]["artifacts"]),
    ]
    workflow = yaml.safe_load((EXAMPLE / ".github/workflows/deploy.yaml").read_text())
    steps = [step.get("run", "") for step in workflow["jobs"]["deploy"]["steps"]]
    named += re.findall(r"--values (\S+)", "\n".join(steps))
    assert [path for path in named if not (EXAMPLE / path).exists()] == []


@pytest.mark.parametrize("name", ["migrate", "rollback"])
def test_jobs_without_the_chart_do_what_its_own_do(helm: Helm, name: str) -> None:
    """Command, tries, annotations and environment are those of the chart's manual Job, but for what the chart adds."""
    (job,) = yaml.safe_load_all((EXAMPLE / f"jobs/{name}.yaml").read_text())
    rendered = yaml.safe_load_all(helm("template", "cliscale", str(EXAMPLE / "cliscale-chart")))
    (cron,) = (each for each in rendered if each and each["metadata"]["name"] == f"manual-{name}")
    ours, theirs = job["spec"], cron["spec"]["jobTemplate"]["spec"]
    pod, template = ours["template"], theirs["template"]
    (container,), (reference,) = pod["spec"]["containers"], template["spec"]["containers"]
    for key in ("name", "image", "command", "terminationMessagePolicy"):
        assert container[key] == reference[key]
    assert [each for each in container["env"] if each not in reference["env"]] == []
    assert pod["metadata"]["annotations"] == template["metadata"]["annotations"]
    assert ours["backoffLimit"] == theirs["backoffLimit"]
    assert pod["spec"]["restartPolicy"] == template["spec"]["restartPolicy"]
    assert job["metadata"]["namespace"] == cron["metadata"]["namespace"]
