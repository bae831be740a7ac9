"""What the chart makes of its values, judged by helm's own schema check and by the real API server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.cluster.helm import Helm, HelmError
from testbed.cluster.rights import granted
from testbed.controlplane import ControlPlane
from tests.cluster.custom_resources import MissingError, definitions

ROOT = Path(__file__).parents[2]
CHART = ROOT / "manifests/chart"
POLICY = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
EVERYTHING = {
    "image": {"repository": "registry.example.com/ledgergate", "digest": "sha256:" + "a" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "logFormat": "json",
    "webhook": {"minAvailable": "50%", "nodeSelector": {"a": "b"}, "podAnnotations": {"a": "b"}},
    "controller": {
        "allowedDatabaseHosts": ["10.0.0.0/8", ".example.com"],
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
    "images": {
        "registries": ["ghcr.io", "*.example.com:5000"],
        "plainHttp": ["registry:5000"],
        "mirrors": [{"registry": "docker.io", "mirror": "mirror.example.com"}],
        "tokenHosts": [{"registry": "registry.example.com", "host": "auth.example.org"}],
        "pullSecret": "registries",
        "caConfigMap": "registry-ca",
        "allowedNetworks": ["fd00::/8"],
        "refusedNetworks": ["10.96.0.0/12"],
        "proxy": {"HTTPS_PROXY": "http://proxy.example:3128"},
    },
    "admission": {"policy": "always", "timeoutSeconds": 5, "excludedNamespaces": ["monitoring"]},
    "databases": [{"namespace": "default", "secrets": ["pg", "reports"]}],
    "uninstall": {"release": "always"},
    "metrics": {
        "auth": {
            "enabled": True,
            "readers": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"}],
        },
        "serviceMonitor": {"enabled": True},
        "alerts": {"enabled": True},
        "dashboard": {"enabled": True},
    },
    "networkPolicy": {"enabled": True, "admissionFrom": [{"ipBlock": {"cidr": "10.0.0.0/28"}}]},
}

Object = dict[str, Any]


@pytest.fixture(scope="module")
def foreign(plane: ControlPlane) -> Iterator[None]:
    """cert-manager's and the Prometheus operator's kinds."""
    try:
        files = definitions()
    except MissingError as reason:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))
    flags = [flag for file in files for flag in ("-f", str(file))]
    plane.kubectl("apply", "--server-side", *flags)
    plane.kubectl("wait", "--for=condition=Established", *flags, "--timeout=20s")
    yield
    plane.kubectl("delete", *flags, "--wait=false")


def render(helm: Helm, values: Object | None = None, *flags: str) -> list[Object]:
    return list(filter(None, yaml.safe_load_all(text(helm, values, *flags))))


def text(helm: Helm, values: Object | None = None, *flags: str) -> str:
    path = helm.home / "values.yaml"
    path.write_text(json.dumps(values or {}))
    return helm("template", "any-name", str(CHART), "-n", "default", "--values", str(path), *flags)


def kinds(objects: list[Object]) -> list[str]:
    return [each["kind"] for each in objects]


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("manager", ["ledgergate", "cert-manager"])
def test_the_api_server_accepts_every_object(plane: ControlPlane, helm: Helm, manager: str) -> None:
    """With every part switched on, a server-side dry run of each object succeeds, strictly, and none is overlooked."""
    objects = render(helm, EVERYTHING | {"certificates": {"manager": manager}})
    # Under the chart's own names they would be merged with those of an installation on the same plane.
    for each in (each for each in objects if each["kind"] != "CustomResourceDefinition"):
        each["metadata"]["name"] = f"rendered-{each['metadata']['name']}"
    said = plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=yaml.safe_dump_all(objects)
    )
    assert len(said.splitlines()) == len(objects) >= 28


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("webhook.replica=3", "'/webhook': additional properties 'replica' not allowed"),
        ("webhok.replicas=3", "additional properties 'webhok' not allowed"),
        ("webhook.replicas=0", "'/webhook/replicas': minimum: got 0, want 1"),
        ("webhook.replicas=many", "'/webhook/replicas': got string, want integer"),
        ("admission.failurePolicy=Open", "'/admission/failurePolicy': value must be one of 'Fail', 'Ignore'"),
        ("admission.timeoutSeconds=31", "'/admission/timeoutSeconds': maximum: got 31, want 30"),
        ("certificates.manager=vault", "value must be one of 'ledgergate', 'cert-manager'"),
        ("certificates.issuerRef.kind=Issuer", "properties 'name' required, if 'kind' exists"),
        ("image.digest=abc", "'/image/digest': 'abc' does not match pattern"),
        ("databases[0].namespace=shop", "'/databases/0': missing property 'secrets'"),
        ("webhook.ports.https=0", "'/webhook/ports/https': minimum: got 0, want 1"),
        ("image.tag=true", "'/image/tag': got boolean, want integer or string"),
        ("uninstall.release=true", "'/uninstall/release': value must be one of 'auto', 'always', 'never'"),
        ("webhook.resources.limit.cpu=1", "'/webhook/resources': additional properties 'limit' not allowed"),
    ],
)
def test_a_value_that_cannot_work_is_named(helm: Helm, setting: str, said: str) -> None:
    """Nothing is rendered from a misspelt key or a wrong type; the message says which and what is expected."""
    with pytest.raises(HelmError) as error:
        text(helm, None, "--set", setting)
    assert said in str(error.value)


def leaves(values: Object, schema: Object, path: str = "") -> Iterator[tuple[str, Object | list[Any] | str | int]]:
    """Yield every value with its path, `/webhook/replicas`; assert that the schema has exactly the same keys."""
    assert values.keys() == schema["properties"].keys() - {"global"}, path
    for key, value in values.items():
        known = schema["properties"][key]
        if isinstance(value, dict) and "properties" in known and value:
            yield from leaves(value, known, f"{path}/{key}")
        else:
            yield f"{path}/{key}", value


def all_values() -> dict[str, Object | list[Any] | str | int]:
    """Return the values of values.yaml, by path."""
    values, schema = (CHART / name for name in ("values.yaml", "values.schema.json"))
    return dict(leaves(yaml.safe_load(values.read_text()), json.loads(schema.read_text())))


def test_every_value_is_checked(helm: Helm) -> None:
    """A value of the wrong type is refused, whichever it is, and all that are wrong are named at once."""
    wrong: Object = {}
    for path, value in all_values().items():
        *sections, key = path.strip("/").split("/")
        at = wrong
        for section in sections:
            at = at.setdefault(section, {})
        at[key] = "wrong" if isinstance(value, (dict, list, bool)) else [value]
    with pytest.raises(HelmError) as error:
        text(helm, wrong)
    assert [path for path in all_values() if f"'{path}'" not in str(error.value)] == []


def test_every_value_is_explained() -> None:
    """Each key of values.yaml has a comment above it, or its section has."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    sections = [number for number, line in enumerate(lines) if line and not line.startswith((" ", "#"))]
    bare = [
        lines[number]
        for number in sections
        if not lines[number - 1].startswith("#") and not lines[number + 1].lstrip().startswith("#")
    ]
    assert bare == []


def test_each_port_has_its_own_peers(helm: Helm) -> None:
    """Clients of admission and of metrics are set separately; without a value every client is allowed."""
    api_server: Object = {"ipBlock": {"cidr": "10.0.0.0/28"}}
    monitoring: Object = {"namespaceSelector": {}}
    peers = {"enabled": True, "admissionFrom": [api_server], "metricsFrom": [monitoring]}
    for values, expected in ((peers, [[api_server], [monitoring]]), ({"enabled": True}, [None, None])):
        (policy,) = (each for each in render(helm, {"networkPolicy": values}) if each["kind"] == "NetworkPolicy")
        assert [rule.get("from") for rule in policy["spec"]["ingress"]] == expected
        assert [rule["ports"] for rule in policy["spec"]["ingress"]] == [[{"port": "https"}], [{"port": "metrics"}]]


def test_the_network_policy_is_there_where_the_api_server_is_named(helm: Helm) -> None:
    """By default it needs the API server's addresses, because one without them would not limit who may ask."""
    named = {"admissionFrom": [{"ipBlock": {"cidr": "10.0.0.0/28"}}]}
    assert "NetworkPolicy" in kinds(render(helm, {"networkPolicy": named}))
    assert "NetworkPolicy" not in kinds(render(helm))
    assert "NetworkPolicy" not in kinds(render(helm, {"networkPolicy": named | {"enabled": False}}))


def test_only_the_controller_gets_the_database_hosts(helm: Helm) -> None:
    """As one flag, and only the controller: the webhook opens no database."""
    hosts = {"controller": {"allowedDatabaseHosts": ["10.0.0.0/8", ".example.com"]}}
    arguments = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["containers"][0]["args"]
        for each in render(helm, hosts)
        if each["kind"] == "Deployment"
    }
    assert arguments["ledgergate-controller"][-2:] == ["--allowed-database-hosts", "10.0.0.0/8,.example.com"]
    assert "--allowed-database-hosts" not in arguments["ledgergate-webhook"]


def test_metrics_can_be_kept_from_others(helm: Helm) -> None:
    """One value: both processes ask for a token, may ask the API server about it, and the readers may get the path."""
    reader = {"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"}
    values = {"metrics": {"auth": {"enabled": True, "readers": [reader]}, "serviceMonitor": {"enabled": True}}}
    objects = render(helm, values, "-n", "platform")
    for each in (each for each in objects if each["kind"] == "Deployment"):
        assert "--metrics-auth" in each["spec"]["template"]["spec"]["containers"][0]["args"]
    bindings = {each["roleRef"]["name"]: each["subjects"] for each in objects if each["kind"] == "ClusterRoleBinding"}
    assert [(each["name"], each["namespace"]) for each in bindings["system:auth-delegator"]] == [
        ("webhook", "platform"),
        ("controller", "platform"),
    ]
    assert bindings["ledgergate-metrics-reader"] == [reader]
    monitors = [each for each in objects if each["kind"] == "ServiceMonitor"]
    assert monitors
    assert all(each["spec"]["endpoints"][0]["bearerTokenFile"] for each in monitors)
    assert "metrics-auth" not in text(helm)


def test_the_policy_is_there_where_the_cluster_has_it(helm: Helm) -> None:
    """The value auto follows what the API server knows; without the policy the final word still fails closed."""
    policy = "MutatingAdmissionPolicy"
    assert policy in kinds(render(helm, None, "--api-versions", POLICY))
    before = render(helm, None, "--kube-version", "1.35.4")
    assert policy not in kinds(before)
    assert policy in kinds(render(helm, None, "--kube-version", "v1.36.0-gke.1")), (
        "the version decides without a cluster"
    )
    hooks = [hook for each in before if each["kind"] == "ValidatingWebhookConfiguration" for hook in each["webhooks"]]
    assert [hook["failurePolicy"] for hook in hooks if hook["name"] == "verdict.ledgergate.dev"] == ["Fail"]
    assert policy in kinds(render(helm, {"admission": {"policy": "always"}}))
    assert policy not in kinds(render(helm, {"admission": {"policy": "never"}}, "--api-versions", POLICY))


def test_the_controller_is_confined_unless_switched_off(helm: Helm) -> None:
    """Whatever the version, in the release's namespace: every Kubernetes that is supported has this policy."""
    name = "confine.ledgergate.dev"
    values = ("--kube-version", "1.30.0", "-n", "guard")
    found, binding = (each for each in render(helm, None, *values) if each["metadata"]["name"] == name)
    assert (found["kind"], binding["kind"]) == ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    assert found["spec"]["matchConditions"][0]["expression"].endswith("'system:serviceaccount:guard:controller'")
    assert name not in text(helm, {"admission": {"confineController": False}})


def test_with_cert_manager_there_is_no_right_to_certificates(helm: Helm) -> None:
    """Neither account may read or write a Secret of the namespace, or a webhook configuration."""
    objects = render(helm, {"certificates": {"manager": "cert-manager"}})
    rights = [right for right in granted(objects) if right.account in {"controller", "webhook"}]
    assert rights
    assert {
        right.resource for right in rights if "webhookconfig" in right.resource or right.resource == "secrets"
    } == set()


def test_no_certificate_is_rendered(helm: Helm) -> None:
    """Neither a key nor a caBundle: rendering twice gives the same, and an upgrade replaces no certificate."""
    values = EVERYTHING | {"certificates": {"manager": "cert-manager"}}
    rendered = text(helm, values)
    assert rendered == text(helm, values)
    assert "caBundle:" not in rendered
    assert "BEGIN" not in rendered


def test_no_cpu_limit(helm: Helm) -> None:
    """Throttled, a replica answers late, and late is denied."""
    for each in render(helm):
        if each["kind"] == "Deployment":
            (container,) = each["spec"]["template"]["spec"]["containers"]
            assert container["resources"]["limits"].keys() == {"memory"}


def test_a_single_replica_has_no_disruption_budget(helm: Helm) -> None:
    """A budget of one pod of one would keep its node from being drained."""
    budgets = [
        each["metadata"]["name"]
        for each in render(helm, {"webhook": {"replicas": 1}})
        if each["kind"] == "PodDisruptionBudget"
    ]
    assert budgets == ["ledgergate-controller"]


def test_the_commands_of_the_pods_exist(helm: Helm) -> None:
    """Each container's command line is one that the image's entry point takes, with cert-manager's files as well."""
    values: Object = {"certificates": {"manager": "cert-manager"}, "uninstall": {"release": "always"}}
    objects = render(helm, {"logFormat": "json", **values})
    pods = [each["spec"]["template"]["spec"] for each in objects if each["kind"] in {"Deployment", "Job"}]
    program = Path(sys.executable).with_name("ledgergate")
    for pod in pods:
        (container,) = pod["containers"]
        done = subprocess.run(
            [program, *container["args"], "--help"], check=False, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert set(flags := [word for word in container["args"] if word.startswith("--")]) <= set(
            done.stdout.replace(",", " ").split()
        ), flags
    assert len(pods) == 3


@pytest.mark.parametrize(
    ("flags", "present", "absent"),
    [
        (
            (),
            ("rollout status", "databases[0].namespace", "admission=audit", "kubectl ledgergate -A"),
            ("This cluster",),
        ),
        (("--set=admission.policy=never",), ("WITHOUT THE POLICY",), ("Rendered without",)),
        (("--set=uninstall.release=never",), ("WITHOUT THE JOB",), ()),
    ],
)
def test_the_notes_are_true(
    helm: Helm, flags: tuple[str, ...], present: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    """They say what is next, and claim nothing of a cluster that a client dry run has not seen."""
    said = helm("install", "x", str(CHART), "-n", "default", "--dry-run=client", *flags).partition("NOTES")[2]
    assert [words for words in present if words not in said] == []
    assert [words for words in (*absent, "pod-security") if words in said] == []


def test_only_the_controller_gets_the_registries(helm: Helm) -> None:
    """Each value of `images` becomes a flag of the controller, which accepts it; logins and authorities are mounted."""
    objects = render(helm, {"images": EVERYTHING["images"]})
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in objects if each["kind"] == "Deployment"
    }
    controller, webhook = pods["ledgergate-controller"], pods["ledgergate-webhook"]
    (arguments,) = [each["args"] for each in controller["containers"]]
    assert arguments[arguments.index("--registry") :] == [
        *("--registry", "ghcr.io", "--registry", "*.example.com:5000"),
        *("--registry-plain-http", "registry:5000"),
        *("--registry-mirror", "docker.io=mirror.example.com"),
        *("--registry-token-host", "registry.example.com=auth.example.org"),
        *("--registry-allow-network", "fd00::/8"),
        *("--registry-refuse-network", "10.96.0.0/12"),
        *("--registry-config", "/etc/ledgergate/registries/.dockerconfigjson"),
        *("--registry-ca-file", "/etc/ledgergate/registry-ca/ca.crt"),
    ]
    assert {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"} in controller["containers"][0]["env"]
    volumes = {each["name"]: each for each in controller["volumes"]}
    assert volumes["registries"]["secret"] == {"secretName": "registries"}
    assert volumes["registry-ca"]["configMap"] == {"name": "registry-ca"}
    assert not any("registry" in each for each in webhook["containers"][0]["args"])


@pytest.mark.parametrize(
    "images",
    [{"registries": ["https://ghcr.io"]}, {"mirrors": [{"registry": "docker.io"}]}, {"refusedNetworks": ["services"]}],
)
def test_wrong_registries_are_refused(helm: Helm, images: Object) -> None:
    """By helm's own schema check, before anything is installed."""
    with pytest.raises(HelmError):
        render(helm, {"images": images})
