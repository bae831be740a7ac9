"""Values of the chart that shape its pods and objects, one by one, as `helm template` renders them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.cluster.helm import Helm

CHART = Path(__file__).parents[2] / "manifests/chart"
WORKLOADS = {"ledgergate-webhook", "ledgergate-controller", "ledgergate-release"}

Object = dict[str, Any]


def render(helm: Helm, values: Object | None = None, *flags: str, chart: Path = CHART) -> dict[tuple[str, str], Object]:
    """Return the objects by kind and name; two of the same name in one namespace are an error."""
    path = helm.home / "values.yaml"
    path.write_text(json.dumps(values or {}))
    rendered = helm("template", "any-name", str(chart), "-n", "guard", "--values", str(path), *flags)
    objects = [each for each in yaml.safe_load_all(rendered) if each]
    found = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    assert len(found) == len(objects)
    return found


def pods(objects: dict[tuple[str, str], Object]) -> dict[str, Object]:
    """Return the pod templates by the name of their Deployment or Job."""
    return {name: each["spec"]["template"] for (kind, name), each in objects.items() if kind in {"Deployment", "Job"}}


def container(template: Object) -> Object:
    (found,) = template["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({}, "ledgergate:0.1.0"),
        ({"image": {"tag": 20250126}}, "ledgergate:20250126"),
        ({"image": {"registry": "r.example.com/", "tag": "1"}}, "r.example.com/ledgergate:1"),
        ({"global": {"imageRegistry": "g.example.com"}, "image": {"registry": "r"}}, "g.example.com/ledgergate:0.1.0"),
    ],
)
def test_the_image(helm: Helm, values: Object, image: str) -> None:
    """A tag of digits is the tag, however large; the registry is the chart's or its parent's."""
    templates = pods(render(helm, {"uninstall": {"release": "always"}, **values}))
    assert templates.keys() == WORKLOADS
    assert {container(each)["image"] for each in templates.values()} == {image}


def test_a_tag_of_digits_by_a_flag(helm: Helm) -> None:
    """`--set image.tag=20250126`, which helm reads as a number."""
    templates = pods(render(helm, None, "--set", "image.tag=20250126"))
    assert {container(each)["image"] for each in templates.values()} == {"ledgergate:20250126"}


def test_grants_of_one_namespace_are_joined(helm: Helm) -> None:
    """Two entries of `databases` for the same namespace grant the Secrets of both."""
    grants = [{"namespace": "shop", "secrets": ["a", "b"]}, {"namespace": "shop", "secrets": ["b", "c"]}]
    role = render(helm, {"databases": grants})["Role", "ledgergate-database"]
    assert role["rules"][0]["resourceNames"] == ["a", "b", "c"]


def test_labels_and_annotations(helm: Helm) -> None:
    """Each is where its value says; none replaces a label by which ledgergate finds its own pods."""
    own = {"app.kubernetes.io/name": "other", "team": "x"}
    values = {
        "uninstall": {"release": "always"},
        "commonLabels": own,
        "webhook": {"podLabels": {"mesh": "off"}, "serviceAccount": {"annotations": {"cloud": "w"}}},
        "controller": {"serviceAccount": {"annotations": {"cloud": "c"}}},
        "admission": {"annotations": {"admissions.enforcer/disabled": "true"}},
        "certificates": {"manager": "cert-manager"},
    }
    objects = render(helm, values)
    assert {each["metadata"]["labels"]["team"] for each in objects.values()} == {"x"}
    templates = pods(objects)
    assert {each["metadata"]["labels"]["team"] for each in templates.values()} == {"x"}
    assert templates["ledgergate-webhook"]["metadata"]["labels"]["mesh"] == "off"
    for name in ("webhook", "controller"):
        deployment = objects["Deployment", f"ledgergate-{name}"]["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        assert labels.items() >= deployment["selector"]["matchLabels"].items()
        assert objects["ServiceAccount", name]["metadata"]["annotations"] == {"cloud": name[0]}
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        assert objects[kind, "ledgergate"]["metadata"]["annotations"] == {
            "admissions.enforcer/disabled": "true",
            "cert-manager.io/inject-ca-from": "guard/ledgergate-webhook",
        }


def test_no_fixed_user(helm: Helm) -> None:
    """For clusters that assign user ids: no pod names one, and all remain under the restricted standard."""
    values = {"fixedUser": False, "uninstall": {"release": "always"}}
    contexts = [each["spec"]["securityContext"] for each in pods(render(helm, values)).values()]
    assert contexts == [{"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}] * 3


def test_security_contexts(helm: Helm) -> None:
    """Their fields are added to the restricted ones, for pods and for containers."""
    template = pods(render(helm, {"podSecurityContext": {"fsGroup": 7}, "securityContext": {"procMount": "Default"}}))
    for each in template.values():
        assert each["spec"]["securityContext"] | {"fsGroup": 7, "runAsNonRoot": True} == each["spec"]["securityContext"]
        assert container(each)["securityContext"].keys() == {
            "allowPrivilegeEscalation",
            "capabilities",
            "procMount",
            "readOnlyRootFilesystem",
        }


def test_the_network_of_the_node(helm: Helm) -> None:
    """With hostNetwork the pods still find the cluster's names, and listen on the ports of the values."""
    values = {"webhook": {"hostNetwork": True, "ports": {"https": 10250, "metrics": 8081}}, "controller": {}}
    objects = render(helm, values)
    webhook = pods(objects)["ledgergate-webhook"]
    assert (webhook["spec"]["hostNetwork"], webhook["spec"]["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    assert container(webhook)["args"] == ["webhook", "--bind", ":10250", "--metrics-bind", ":8081"]
    assert [port["containerPort"] for port in container(webhook)["ports"]] == [10250, 8081]
    (port,) = objects["Service", "ledgergate-webhook"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (443, "https")
    controller = pods(objects)["ledgergate-controller"]
    assert "hostNetwork" not in controller["spec"]
    assert container(controller)["args"] == ["controller", "--metrics-bind", ":8080"]
    alone = pods(render(helm, {"webhook": {"hostNetwork": True, "dnsPolicy": "Default"}}))["ledgergate-webhook"]
    assert alone["spec"]["dnsPolicy"] == "Default"


def test_further_parts_of_a_pod(helm: Helm) -> None:
    """Variables, volumes and mounts are added; the Job, which reaches the same API server, has the controller's."""
    parts: dict[str, list[Object]] = {
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    }
    templates = pods(render(helm, {"controller": parts, "uninstall": {"release": "always"}, "revisionHistoryLimit": 0}))
    for name in ("ledgergate-controller", "ledgergate-release"):
        assert container(templates[name])["env"][-1] == parts["extraEnv"][0]
        assert [each["name"] for each in templates[name]["spec"]["volumes"]] == ["tmp", "ca"]
        assert [each["name"] for each in container(templates[name])["volumeMounts"]] == ["tmp", "ca"]
    assert "HTTPS_PROXY" not in json.dumps(templates["ledgergate-webhook"])


def test_the_job_runs_where_the_controller_does(helm: Helm) -> None:
    """Its tolerations and nodeSelector are the controller's, unless it has its own."""
    place = {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"pool": "infra"}}
    own = {"release": "always", "nodeSelector": {"pool": "other"}}
    for uninstall, pool in (({"release": "always"}, "infra"), (own, "other")):
        spec = pods(render(helm, {"controller": place, "uninstall": uninstall}))["ledgergate-release"]["spec"]
        assert (spec["tolerations"], spec["nodeSelector"]) == ([{"operator": "Exists"}], {"pool": pool})


def test_without_a_cluster_no_job_is_rendered(helm: Helm) -> None:
    """`helm template | kubectl apply` gets no Job and none of its rights; `always` makes them Argo CD's hooks."""
    assert "ledgergate-release" not in {name for _, name in render(helm)}
    assert "ledgergate-release" not in {name for _, name in render(helm, {"uninstall": {"release": "never"}})}
    hooks = [
        each["metadata"]["annotations"]
        for (_, name), each in render(helm, {"uninstall": {"release": "always"}}).items()
        if name == "ledgergate-release"
    ]
    expected = {
        "argocd.argoproj.io/hook": "PostDelete",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation,HookSucceeded",
    }
    assert hooks == [expected] * 6, "with helm's annotation too, newer versions of Argo CD would run it twice"


def umbrella(directory: Path) -> Path:
    """Write a chart that has ledgergate's as a dependency, with its condition."""
    directory.mkdir()
    dependency = {"name": "ledgergate", "version": "*", "repository": "", "condition": "ledgergate.enabled"}
    chart = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]}
    (directory / "Chart.yaml").write_text(json.dumps(chart))
    (directory / "charts").mkdir()
    (directory / "charts" / "ledgergate").symlink_to(CHART)
    return directory


def test_under_an_umbrella(helm: Helm, tmp_path: Path) -> None:
    """As a dependency with a condition: switched on, it is the same chart; switched off, it renders nothing."""
    chart = umbrella(tmp_path / "platform")
    values = {"global": {"imageRegistry": "g.example.com", "storageClass": "x"}}
    on = render(helm, values | {"ledgergate": {"enabled": True}}, chart=chart)
    assert on == render(helm, values)
    assert render(helm, {"ledgergate": {"enabled": False}}, chart=chart) == {}
