"""The kustomize way and the helm way install the same objects, and each object is what the API server accepts."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

MANIFESTS = Path(__file__).parents[2] / "manifests"
CHART = MANIFESTS / "chart"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
COMPONENTS = {"cert-manager": "certificates.manager=cert-manager", "network-policy": "networkPolicy.enabled=true"}
"""Components, and the value of the chart that stands for each."""

Object = dict[str, Any]
Key = tuple[str, str, str]


def run(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_key(rendered: str) -> dict[Key, Object]:
    objects = [each for each in yaml.safe_load_all(rendered) if each]
    keyed = {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in objects}
    assert len(keyed) == len(objects)
    return keyed


def from_helm(helm_program: Path, *flags: str, namespace: str = "ledgergate") -> dict[Key, Object]:
    """Return the objects of a release: without hooks, which come and go, and without helm's mark of what it keeps."""
    rendered = run(helm_program, "template", "any-name", CHART, "--namespace", namespace, *flags)
    objects = by_key(rendered)
    for each in objects.values():
        annotations = each["metadata"].get("annotations", {})
        if annotations.pop("helm.sh/resource-policy", None) and not annotations:
            del each["metadata"]["annotations"]
    return {key: each for key, each in objects.items() if "helm.sh/hook" not in each["metadata"].get("annotations", {})}


def from_kustomize(programs: Path, folder: Path) -> dict[Key, Object]:
    """Return all objects but the Namespace, which is not part of the chart."""
    objects = by_key(run(programs / "kubectl", "kustomize", folder))
    return {key: each for key, each in objects.items() if key[0] != "Namespace"}


def assert_same(found: dict[Key, Object], expected: dict[Key, Object]) -> None:
    assert found.keys() == expected.keys()
    assert [key for key, each in expected.items() if found[key] != each] == []


def test_the_base_is_the_chart(programs: Path, helm_program: Path) -> None:
    """`kubectl kustomize manifests/base` and `helm template` give the same objects, one by one."""
    expected = from_kustomize(programs, MANIFESTS / "base")
    found = from_helm(helm_program, "--set", "admission.policy=always")
    assert_same(found, expected)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_is_the_chart_with_its_values(programs: Path, helm_program: Path, overlay: str) -> None:
    """An overlay's values.yaml makes the chart what the overlay makes the base."""
    folder = MANIFESTS / "overlays" / overlay
    expected = from_kustomize(programs, folder)
    policy = () if overlay == "before-1.36" else ("--set", "admission.policy=always")
    found = from_helm(helm_program, "--values", str(folder / "values.yaml"), *policy)
    assert_same(found, expected)


@pytest.mark.parametrize(("name", "value"), COMPONENTS.items())
def test_each_component_is_the_chart_with_its_value(
    programs: Path, helm_program: Path, tmp_path: Path, name: str, value: str
) -> None:
    """A component makes the base what its value makes the chart."""
    component = tmp_path / "kustomization.yaml"
    relative = relative_to(tmp_path)
    component.write_text(
        yaml.safe_dump({"resources": [f"{relative}/base"], "components": [f"{relative}/components/{name}"]})
    )
    expected = from_kustomize(programs, tmp_path)
    found = from_helm(helm_program, "--set", f"admission.policy=always,{value}")
    assert_same(found, expected)


def test_every_component_is_compared() -> None:
    """A component that is not in `COMPONENTS` is part of an overlay that is compared."""
    of_overlays = {"prometheus", "without-policy"}
    assert {path.name for path in (MANIFESTS / "components").iterdir()} == COMPONENTS.keys() | of_overlays


def relative_to(folder: Path) -> str:
    """Return the path from a folder to the manifests: kustomize takes no absolute one."""
    return str(Path(*[".."] * (len(folder.parts) - 1), *MANIFESTS.parts[1:]))


@pytest.mark.parametrize(
    ("components", "flags"),
    [
        ((), ()),
        (
            ("cert-manager", "network-policy", "prometheus"),
            (
                "--set=certificates.manager=cert-manager,networkPolicy.enabled=true,metrics.dashboard.enabled=true",
                "--set=metrics.serviceMonitor.enabled=true,metrics.alerts.enabled=true",
            ),
        ),
        (("without-policy",), ("--set=admission.policy=never",)),
    ],
)
def test_kustomize_in_another_namespace_is_the_chart_there(
    programs: Path, helm_program: Path, tmp_path: Path, components: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    """With kustomize's `namespace` and the transformer: also in selectors, CEL expressions, cert-manager's names."""
    manifests = relative_to(tmp_path)
    kustomization = {
        "namespace": "guard",
        "resources": [f"{manifests}/base"],
        "components": [f"{manifests}/components/{name}" for name in components],
        "transformers": [f"{manifests}/transformers/namespace"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    expected = from_helm(helm_program, "--set=admission.policy=always", *flags, namespace="guard")
    assert_same(from_kustomize(programs, tmp_path), expected)


@pytest.mark.parametrize("namespace", ["123", "true", "ledgergate-system"])
def test_a_namespace_may_have_any_name(helm_program: Path, namespace: str) -> None:
    """A name that YAML reads as a number stays text, and one that begins like the default is not mistaken for it."""
    objects = from_helm(helm_program, namespace=namespace)
    found = {each["metadata"].get("namespace", namespace) for each in objects.values()}
    assert found == {namespace}
    subjects = [subject for each in objects.values() for subject in each.get("subjects", ())]
    assert {subject["namespace"] for subject in subjects} == {namespace}


def test_another_namespace_is_named_everywhere(helm_program: Path) -> None:
    """In another namespace nothing of the default one is left: subjects, Services, selectors, CEL expressions."""
    switched_on = ("metrics.serviceMonitor.enabled", "metrics.alerts.enabled", "networkPolicy.enabled")
    flags = ("--set", ",".join(["admission.policy=always", *(f"{value}=true" for value in switched_on)]))
    here, there = (from_helm(helm_program, *flags, namespace=name) for name in ("ledgergate", "guard"))
    moved = yaml.safe_load(
        yaml.safe_dump(list(here.values()))
        .replace("namespace: ledgergate\n", "namespace: guard\n")
        .replace("serviceaccount:ledgergate:", "serviceaccount:guard:")
        .replace("- ledgergate\n        - kube-system", "- guard\n        - kube-system")
        .replace("- ledgergate\n          - kube-system", "- guard\n          - kube-system")
    )
    assert moved != list(here.values())
    assert list(there.values()) == moved
