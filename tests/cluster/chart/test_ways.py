"""Each way to install ledgergate and to remove it: a bad pod is free only after the removal was asked for.

`helm install` and `helm uninstall` are in test_chart.py and test_uninstall.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.cluster.application import SECOND, THIRD, Application, migrate
from testbed.cluster.guard import CHART, PARTS, Guard
from testbed.waiting import until
from tests.cluster.held_pods import assert_in_service, hold_a_bad_pod, release

MANIFESTS = Path(CHART).parent
ONE = "webhook.replicas=1,controller.replicas=1"
REFUSAL = "ledgergate is not taken out of service: "
HOOKS = ("helm.sh/hook", "argocd.argoproj.io/hook")

Object = dict[str, Any]


@pytest.fixture
def nothing(guarding: Guard) -> Guard:
    """The plane without ledgergate, and without the CRD that another release has kept."""
    guarding.uninstall("--ignore-not-found")
    guarding.plane.kubectl("delete", "crd", "ledgergates.ledgergate.dev", "--ignore-not-found")
    return guarding


def render(guard: Guard, *flags: str) -> list[Object]:
    """Return what `helm template` renders."""
    text = guard.helm("template", guard.release, CHART, "-n", guard.namespace, "--set", ONE, *flags)
    return [each for each in yaml.safe_load_all(text) if each]


def grant(namespace: str) -> str:
    """Return the flag that lets ledgergate read the Secret of a namespace."""
    return f"--set-json=databases={json.dumps([{'namespace': namespace, 'secrets': ['pg']}])}"


def is_hook(subject: Object) -> bool:
    return not set(HOOKS).isdisjoint(subject["metadata"].get("annotations", {}))


def apply(guard: Guard, objects: list[Object], *flags: str) -> None:
    """Apply objects as GitOps tools do; the CRD first, as its kind is not known at once."""
    first = [each for each in objects if each["kind"] in {"CustomResourceDefinition", "Namespace"}]
    command = ("apply", "--server-side", "--force-conflicts", *flags, "-f", "-")
    guard.plane.kubectl(*command, stdin=yaml.safe_dump_all(first))
    guard.plane.await_gate_kind()
    guard.plane.kubectl(*command, stdin=yaml.safe_dump_all(objects))


def delete(guard: Guard, objects: list[Object]) -> None:
    guard.plane.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=yaml.safe_dump_all(objects))


def await_refusal(guard: Guard) -> None:
    """Wait until the Job, applied like any other object, has refused to work."""
    until("the Job's refusal", lambda: REFUSAL in guard.pods.logs())


def test_rendered_and_applied(nothing: Guard, namespace: str, database: str, migrations: Path) -> None:
    """`helm template --dry-run=server | kubectl apply` applies the hook's Job too, which then does nothing."""
    objects = render(nothing, "--dry-run=server", grant(namespace))
    assert any(each["kind"] == "Job" for each in objects)
    apply(nothing, objects)
    application = hold_a_bad_pod(nothing, namespace, database, migrations)
    await_refusal(nothing)
    assert_in_service(nothing, application)
    release(nothing)
    delete(nothing, objects)
    application.await_running("early", 1)
    application.await_running("late", 1)


def test_applied_by_a_second_manager(guard: Guard, namespace: str, database: str, migrations: Path) -> None:
    """A release of helm, applied over by another tool: the Job does nothing, and `helm uninstall` still works."""
    guard.grant(namespace)
    application = hold_a_bad_pod(guard, namespace, database, migrations)
    rendered = render(guard, "--dry-run=server", grant(namespace))
    apply(guard, rendered, "--field-manager=helm-like")
    await_refusal(guard)
    guard.await_ready()
    assert_in_service(guard, application)
    guard.uninstall()
    application.await_running("early", 1)
    application.await_running("late", 1)
    # helm deletes only the hooks that it has created itself, and later tests count what is left.
    hooks = yaml.safe_dump_all(each for each in rendered if is_hook(each))
    guard.plane.kubectl("delete", "--ignore-not-found", "--cascade=foreground", "-f", "-", stdin=hooks)


def test_argo_cd(nothing: Guard, namespace: str, database: str, migrations: Path) -> None:
    """What Argo CD does: it applies what is no hook, deletes it with the Application, and then runs the hook."""
    version = nothing.plane.api.get("/version")["gitVersion"]
    objects = render(nothing, "--set=uninstall.release=always", f"--kube-version={version}", grant(namespace))
    hooks = [each for each in objects if is_hook(each)]
    others = [each for each in objects if not is_hook(each)]
    apply(nothing, others)
    application = hold_a_bad_pod(nothing, namespace, database, migrations)
    assert_in_service(nothing, application)
    delete(nothing, [each for each in others if each["kind"] != "CustomResourceDefinition"])
    nothing.plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(hooks))
    nothing.plane.kubectl(
        "wait", "--for=condition=Complete", "job/ledgergate-release", "-n", nothing.namespace, "--timeout=60s"
    )
    application.await_running("early", 1)
    application.await_running("late", 1)
    delete(nothing, objects)


def test_under_an_umbrella(nothing: Guard, namespace: str, database: str, migrations: Path, tmp_path: Path) -> None:
    """As a dependency of another chart: its hook runs when the parent is uninstalled."""
    dependency = {"name": "ledgergate", "version": "*", "repository": "", "condition": "ledgergate.enabled"}
    parent = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]}
    (tmp_path / "Chart.yaml").write_text(json.dumps(parent))
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "ledgergate").symlink_to(CHART)
    values = {"enabled": True, "webhook": {"replicas": 1}, "controller": {"replicas": 1}}
    values["databases"] = [{"namespace": namespace, "secrets": ["pg"]}]
    (tmp_path / "values.yaml").write_text(json.dumps({"ledgergate": values}))
    nothing.helm("install", nothing.release, "-n", nothing.namespace, str(tmp_path))
    application = hold_a_bad_pod(nothing, namespace, database, migrations)
    assert_in_service(nothing, application)
    nothing.uninstall()
    application.await_running("early", 1)
    application.await_running("late", 1)


def kustomize(guard: Guard, namespace: str, directory: Path, *, transformer: bool) -> list[Object]:
    """Return the base in another namespace, by a kustomization with or without ledgergate's transformer."""
    manifests = Path(*[".."] * (len(directory.parts) - 1), *MANIFESTS.parts[1:])
    replicas = [{"name": f"ledgergate-{name}", "count": 1} for name in ("webhook", "controller")]
    base = "base" if guard.plane.has_policy else "overlays/before-1.36"
    kustomization: Object = {"namespace": namespace, "resources": [f"{manifests}/{base}"], "replicas": replicas}
    if transformer:
        kustomization["transformers"] = [f"{manifests}/transformers/namespace"]
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return list(yaml.safe_load_all(guard.plane.kubectl("kustomize", str(directory))))


def grant_from(guard: Guard, namespace: str) -> None:
    """Let ledgergate, in the guard's namespace, read the Secret of another one."""
    role = yaml.safe_load_all((MANIFESTS / "chart/files/namespace/role.yaml").read_text())
    text = yaml.safe_dump_all(list(role)).replace("namespace: ledgergate", f"namespace: {guard.namespace}")
    guard.plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=text)


def test_kustomize_in_another_namespace(
    nothing: Guard, namespace: str, database: str, migrations: Path, tmp_path: Path
) -> None:
    """With kustomize's `namespace` and ledgergate's transformer the controller may release pods there."""
    plane = nothing.plane
    objects = kustomize(nothing, "elsewhere", tmp_path, transformer=True)
    plane.kubectl("create", "namespace", "elsewhere")
    with Guard(nothing.helm, plane, "none", "elsewhere") as there:
        apply(there, objects)
        grant_from(there, namespace)
        application = hold_a_bad_pod(there, namespace, database, migrations)
        assert_in_service(there, application)
        migrate(migrations, database)
        application.await_running("early", 1)
        migrate(migrations, database, "--to", SECOND, command="down")
        until("the ledger to be read", lambda: application.status().get("head") == SECOND)
        application.deploy("again", THIRD, replicas=1)
        application.await_held("again", 1)
        release(there)
        delete(there, objects)
        application.await_running("again", 1)


def test_kustomize_in_another_namespace_without_the_transformer(
    nothing: Guard, namespace: str, database: str, migrations: Path, tmp_path: Path
) -> None:
    """The controller does not become ready and says which line to add; with that line everything is in order.

    Neither before, in between nor after it is a bad pod free.
    """
    line = "transformers: [.../manifests/transformers/namespace]"
    plane = nothing.plane
    plane.kubectl("create", "namespace", "moved")
    with Guard(nothing.helm, plane, "none", "moved") as there:
        apply(there, kustomize(there, "moved", tmp_path, transformer=False))
        grant_from(there, namespace)
        there.serve(PARTS[0])
        (controller,) = until("the controller", lambda: there.pods.running("controller"))
        until("the controller to say why it is not ready", lambda: line in controller.unready())
        assert "installation.wrong_account" in there.pods.logs()
        application = Application(plane, namespace)
        application.secret(database)
        application.gate()
        plane.kubectl("label", "namespace", namespace, "ledgergate.dev/admission=enabled")
        migrate(migrations, database, "--to", SECOND)
        application.deploy("early", THIRD, replicas=1)
        application.await_held("early", 1)
        assert "denied the request" in application.try_to_ungate(application.held("early")[0])
        apply(there, objects := kustomize(there, "moved", tmp_path, transformer=True))
        there.await_ready()
        assert_in_service(there, application)
        migrate(migrations, database)
        application.await_running("early", 1)
        release(there)
        delete(there, objects)
