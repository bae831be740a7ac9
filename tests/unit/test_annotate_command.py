"""`ledgergate annotate`: which pods it chooses, and what it refuses."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from webhook.cli.main import main

GATEWAY = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway, namespace: shop}
spec:
  template:
    metadata: {labels: {app: gateway}}
    spec: {containers: [{name: app}]}
"""
WORKER = GATEWAY.replace("gateway", "worker")
GATE = """\
apiVersion: ledgergate.dev/v1alpha1
kind: LedgerGate
metadata: {name: shop, namespace: shop}
spec:
  selector: {matchLabels: {app: gateway}}
  ledger: {dialect: ledgergate}
"""
OTHER_GATE = GATE.replace("name: shop,", "name: other,").replace("app: gateway", "app: worker")
REVISION = "20250101000000_a+1.5234a921d098"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """One migration."""
    (tmp_path / "20250101000000_a.sql").write_text("-- migrate:up\nselect 1;")
    return tmp_path


def run(directory: Path, documents: list[str], *arguments: str) -> Result:
    named = () if "--dir" in arguments else ("--dir", str(directory))
    return CliRunner().invoke(main, ["annotate", *named, *arguments], input="---\n".join(documents))


def annotations(done: Result) -> dict[str, dict[str, str]]:
    """Return the annotations of each Deployment's pods."""
    assert done.exit_code == 0, done.output
    documents = list(yaml.safe_load_all(done.stdout))
    if documents[0]["kind"] == "ResourceList":
        documents = documents[0]["items"]
    return {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"].get("annotations", {})
        for each in documents
        if each["kind"] == "Deployment"
    }


WITH, WITHOUT = {"ledgergate.dev/revision": REVISION}, dict[str, str]()


@pytest.mark.parametrize(
    ("documents", "arguments", "gateway", "worker"),
    [
        ([GATEWAY, WORKER, GATE], (), WITH, WITHOUT),
        ([GATEWAY, WORKER], ("--workload", "Deployment/worker"), WITHOUT, WITH),
        ([GATEWAY, WORKER], ("--selector", "app=worker"), WITHOUT, WITH),
        ([GATEWAY, WORKER, GATE], ("-l", "app=worker"), WITHOUT, WITH),
        ([GATEWAY, WORKER, GATE, OTHER_GATE], ("--workload", "deployment/gateway"), WITH, WITHOUT),
        (
            [GATEWAY, WORKER, GATE, OTHER_GATE],
            ("--gate", "other"),
            WITHOUT,
            {"revision.ledgergate.dev/other": REVISION},
        ),
        (
            [GATEWAY, WORKER],
            ("--gate", "elsewhere", "--selector", "app=gateway"),
            {"revision.ledgergate.dev/elsewhere": REVISION},
            WITHOUT,
        ),
        (
            [GATEWAY, WORKER.replace("namespace: shop", "namespace: x"), GATE.replace("{app: gateway}", "{}")],
            (),
            WITH,
            {},
        ),
    ],
)
def test_which_pods_are_annotated(
    directory: Path, documents: list[str], arguments: tuple[str, ...], gateway: dict[str, str], worker: dict[str, str]
) -> None:
    """Those that are named, else those of the LedgerGate among the manifests, in its namespace."""
    assert annotations(run(directory, documents, *arguments)) == {"gateway": gateway, "worker": worker}


@pytest.mark.parametrize(
    ("documents", "arguments", "says"),
    [
        ([GATEWAY], (), "expected a LedgerGate among the manifests"),
        ([GATEWAY, GATE, OTHER_GATE], (), "found other, shop: name the directory's with --gate"),
        ([WORKER, GATE], (), "expected pods of LedgerGate shop; found deployment/worker"),
        ([GATE], (), "found no pod template"),
        (
            [GATEWAY],
            ("--workload", "deployment/a", "--workload", "deployment/gateway"),
            "expected pods of deployment/a",
        ),
        ([GATEWAY], ("--workload", "gateway"), "expected --workload KIND/NAME"),
        ([GATEWAY], ("--selector", "app"), "expected --selector KEY=VALUE"),
        ([GATEWAY], ("--selector", "app==gateway"), "expected --selector KEY=VALUE"),
        ([GATEWAY], ("--selector", "app=x"), "expected pods of the selector; found deployment/gateway"),
        ([GATE, GATE, GATEWAY], ("--gate", "shop"), "expected one LedgerGate shop, found 2"),
        ([GATEWAY, "a: ["], ("--selector", "app=gateway"), "expected YAML"),
        ([GATEWAY], ("--selector", "app=gateway", "--dir", "/nowhere"), "expected a directory of migrations"),
        ([GATEWAY], ("--selector", "app=gateway", "--dialect", "no"), "dialect"),
        ([GATEWAY], ("--filename", "/nowhere", "--selector", "app=gateway"), "expected a text that can be read"),
        ([""], ("--selector", "app=gateway"), "found no pod template"),
    ],
)
def test_what_is_refused(directory: Path, documents: list[str], arguments: tuple[str, ...], says: str) -> None:
    """Exit 2 and nothing on standard output: what follows in a pipe must not deploy unguarded pods."""
    done = run(directory, documents, *arguments)
    assert done.exit_code == 2, done.output
    assert says in done.stderr
    assert done.stdout == ""


def test_bytes_stay(directory: Path, tmp_path: Path) -> None:
    """Of a file with a mark of byte order and line ends of Windows, only the annotation is new."""
    file = tmp_path / "manifests.yaml"
    content = b"\xef\xbb\xbf" + f"# é😀\n{GATEWAY}".replace("\n", "\r\n").encode()
    file.write_bytes(content)
    done = run(directory, [], "-f", str(file), "--workload", "deployment/gateway")
    assert done.exit_code == 0, done.output
    inserted = f'"annotations": {{"ledgergate.dev/revision": "{REVISION}"}}, '.encode()
    assert done.stdout_bytes.replace(inserted, b"") == content
    assert b"deployment/gateway" in done.stderr_bytes


def test_contracts_that_are_gone_are_emptied(directory: Path) -> None:
    """An older annotation would name migrations that the image does not bring; where there is none, none is written."""
    old = 'annotations: {ledgergate.dev/contract: "2_b:1_a"}, labels'
    found = annotations(run(directory, [GATEWAY.replace("labels", old), WORKER], "-l", "app=gateway"))
    assert found["gateway"] == {**WITH, "ledgergate.dev/contract": ""}
    (directory / "20250201000000_b.sql").write_text(
        "-- migrate:up contract compatible-from:20250101000000_a\nselect 1;"
    )
    found = annotations(run(directory, [GATEWAY.replace("labels", old), WORKER], "-l", "app=gateway"))
    assert found["gateway"]["ledgergate.dev/contract"] == "20250201000000_b:20250101000000_a"


def test_the_dialect_is_the_gates(tmp_path: Path) -> None:
    """A directory is read as the LedgerGate's tool reads it, unless a flag says otherwise."""
    (tmp_path / "7_users.js").write_text("")
    gate = GATE.replace("dialect: ledgergate", "dialect: knex")
    found = annotations(run(tmp_path, [GATEWAY, gate]))
    assert found["gateway"]["ledgergate.dev/revision"].startswith("7_users+1.")


def resource_list(function: str) -> str:
    items = yaml.safe_dump([yaml.safe_load(each) for each in (GATEWAY, WORKER)])
    return f"apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nfunctionConfig: {function}\nitems:\n{items}"


@pytest.mark.parametrize(
    "function",
    [
        "{kind: ConfigMap, data: {workload: deployment/worker}}",
        "{kind: Annotate, spec: {selector: app=worker}}",
        "{kind: Annotate, spec: {workload: [deployment/worker], dir: /nowhere}}",
    ],
)
def test_a_kustomize_function(directory: Path, function: str) -> None:
    """Configured by `data` or `spec`; a flag counts before them. The result is a ResourceList."""
    done = run(directory, [resource_list(function)])
    assert annotations(done) == {"gateway": WITHOUT, "worker": WITH}
    assert yaml.safe_load(done.stdout)["kind"] == "ResourceList"


def test_a_kustomize_function_with_an_unknown_field(directory: Path) -> None:
    """The message names the fields that there are."""
    done = run(directory, [resource_list("{data: {workloads: deployment/worker}}")])
    assert done.exit_code == 2
    assert "expected dir, dialect, gate, selector, workload" in done.stderr
