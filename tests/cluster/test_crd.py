"""The LedgerGate's schema: what it fills in, what it refuses, and how it explains itself."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.controlplane import ControlPlane, ControlPlaneError
from testbed.waiting import until

FOLDER = Path(__file__).parents[2] / "manifests" / "crd"

Object = dict[str, Any]


@pytest.fixture(scope="module")
def installed(plane: ControlPlane) -> ControlPlane:
    plane.kubectl("apply", "--server-side", "-k", str(FOLDER))
    plane.kubectl("wait", "--for=condition=Established", "crd/ledgergates.ledgergate.dev", "--timeout=120s")
    return plane


def create(plane: ControlPlane, namespace: str, subject: Object, *flags: str) -> Object:
    command = ("create", "-n", namespace, "-o", "json", "-f", "-", *flags)
    created: Object = json.loads(plane.kubectl(*command, stdin=json.dumps(subject)))
    return created


def ledgergate(**spec: object) -> Object:
    return {
        "apiVersion": "ledgergate.dev/v1alpha1",
        "kind": "LedgerGate",
        "metadata": {"name": "app"},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "database": {"secretRef": {"name": "pg"}},
            "ledger": {"dialect": "ledgergate"},
            **spec,
        },
    }


def test_a_short_ledgergate_is_filled_with_the_defaults(installed: ControlPlane, namespace: str) -> None:
    """What the contract calls default is written into the object, where `kubectl get -o yaml` shows it."""
    spec = create(installed, namespace, ledgergate())["spec"]
    assert {key: spec[key] for key in spec if key not in {"selector", "database", "ledger"}} == {
        "mode": "Enforce",
        "onBehind": "Hold",
        "onBehindWorkload": "Warn",
        "onAhead": "Allow",
        "onUndeclared": "Warn",
        "onUnreachable": "LastKnown",
        "onContract": "Hold",
        "readiness": "Off",
        "maxHold": "8m",
        "supersededPods": "Keep",
    }


CONTRACT = """
apiVersion: ledgergate.dev/v1alpha1
kind: LedgerGate
metadata: {name: cliscale}
spec:
  mode: Enforce
  selector: {matchLabels: {app.kubernetes.io/part-of: cliscale}}
  database:
    secretRef: {name: pg}
  ledger: {dialect: knex, schema: public, table: knex_migrations}
  expect: {env: EXPECTED_REVISION}
  onBehind: Hold
  onAhead: Allow
  onUndeclared: Warn
  onUnreachable: LastKnown
  onContract: Hold
  contracts: [{revision: 20260315090000_drop_name, compatibleFrom: 20260301090000_add_full_name}]
  readiness: Off
  maxHold: 8m
  bypass: {until: "2026-01-26T18:30:00Z", reason: "restoring from backup"}
"""


def test_the_documented_example_is_accepted_as_people_type_it(installed: ControlPlane, namespace: str) -> None:
    """The contract's own example passes, although kubectl reads its `readiness: Off` as the boolean false."""
    installed.kubectl("apply", "-n", namespace, "-f", "-", stdin=CONTRACT)
    stored = json.loads(installed.kubectl("get", "lgate", "cliscale", "-n", namespace, "-o", "json"))
    assert stored["spec"]["readiness"] is False


def test_the_columns_say_what_matters(installed: ControlPlane, namespace: str) -> None:
    """`kubectl get ledgergates` shows dialect, head, count, state and held pods, from the status subresource."""
    create(installed, namespace, ledgergate())
    seen = {"head": "20250126120000_add_users", "applied": 30, "state": "Current", "heldPods": 3}
    status = json.dumps({"status": seen})
    patch = ("patch", "lgate", "app", "-n", namespace, "--subresource=status", "--type=merge", "-p", status)

    def shown() -> str:
        # Written again each time: the controller of another test on this plane may have overwritten it.
        installed.kubectl(*patch)
        head, row = installed.kubectl("get", "ledgergates", "-n", namespace).splitlines()
        assert head.split() == ["NAME", "DIALECT", "HEAD", "APPLIED", "STATE", "HELD", "OLDEST", "AGE"]
        return " ".join(row.split()[:-1])

    until("what was written", lambda: shown() == "app ledgergate 20250126120000_add_users 30 Current 3")


def test_what_the_controller_remembers_is_kept(installed: ControlPlane, namespace: str) -> None:
    """The schema prunes nothing that we write: after a restart in an outage it is all that is known."""
    create(installed, namespace, ledgergate())
    moment = "2026-01-26T12:00:00Z"
    seen = {
        "place": "5f1c",
        "history": [
            {"revision": "a", "observedAt": moment},
            {"revision": "b", "observedAt": moment, "compatibleFrom": "a"},
        ],
        "migration": {"revision": "c", "holder": "job-1", "since": moment},
    }
    patch = ("patch", "lgate", "app", "-n", namespace, "--subresource=status", "--type=merge", "-o", "json", "-p")
    kept = json.loads(installed.kubectl(*patch, json.dumps({"status": seen})))["status"]
    # A controller that another test has started may have written other fields by now.
    assert {field: kept.get(field) for field in seen} == seen


def test_every_field_is_explained(installed: ControlPlane) -> None:
    """`kubectl explain --recursive` finds each field; each has a whole sentence."""
    for folder in ("spec", "status"):
        explained = installed.kubectl("explain", f"lgate.{folder}")
        assert "<no description>" not in explained
    crd = json.loads(installed.kubectl("get", "crd", "ledgergates.ledgergate.dev", "-o", "json"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert not [path for part in ("spec", "status") for path in undescribed(schema[part], part)]


def undescribed(schema: Object, path: str) -> Iterator[str]:
    if not schema.get("description", "").endswith("."):
        yield path
    for name, field in schema.get("properties", {}).items():
        yield from undescribed(field, f"{path}.{name}")
    for name, field in schema.get("items", {}).get("properties", {}).items():
        yield from undescribed(field, f"{path}[].{name}")


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"selector": None}, "spec.selector: Required value"),
        ({"database": {}}, "spec.database.secretRef: Required value"),
        ({"database": {"secretRef": {}}}, "spec.database.secretRef.name: Required value"),
        ({"database": {"secretRef": {"name": "Pg!"}}}, "spec.database.secretRef.name: Invalid value"),
        (
            {"database": {"secretRef": {"name": "pg", "namespace": "other"}}},
            'unknown field "spec.database.secretRef.namespace"',
        ),
        ({"ledger": {}}, "spec.ledger.dialect: Required value"),
        ({"ledger": {"dialect": ""}}, "spec.ledger.dialect: Invalid value"),
        (
            {"ledger": {"dialect": "knex", "table": "public.knex"}},
            "spec.ledger.table: Invalid value.*spec.ledger.schema",
        ),
        ({"ledger": {"dialect": "knex", "schema": ""}}, "spec.ledger.schema: Invalid value"),
        ({"mode": "enforce"}, 'spec.mode: Unsupported value: "enforce".*"Enforce", "Audit"'),
        ({"onBehind": "Allow"}, "spec.onBehind: Unsupported value"),
        ({"onBehindWorkload": "Hold"}, "spec.onBehindWorkload: Unsupported value"),
        ({"onAhead": "Hold"}, "spec.onAhead: Unsupported value"),
        ({"onUndeclared": "LastKnown"}, "spec.onUndeclared: Unsupported value"),
        ({"onUnreachable": "Warn"}, "spec.onUnreachable: Unsupported value"),
        ({"readiness": True}, "spec.readiness: Unsupported value"),
        ({"readiness": "On"}, "spec.readiness: Unsupported value"),
        ({"maxHold": "15 minutes"}, "spec.maxHold: Invalid value"),
        ({"maxHold": 15}, "spec.maxHold: Invalid value"),
        ({"expect": {"env": "A=B"}}, "spec.expect.env: Invalid value"),
        ({"bypass": {"until": "2026-01-26T18:30:00Z"}}, "spec.bypass.reason: Required value"),
        ({"bypass": {"until": "tomorrow", "reason": "x"}}, "spec.bypass.until: Invalid value"),
        ({"bypass": {"until": "2026-01-26T18:30:00Z", "reason": " "}}, "spec.bypass.reason: Invalid value"),
        ({"selector": {"matchLabels": {"app": "no spaces"}}}, "spec.selector.matchLabels.app: Invalid value"),
        (
            {"selector": {"matchExpressions": [{"key": "app", "operator": "Equals"}]}},
            r"spec.selector.matchExpressions\[0\].operator: Unsupported value",
        ),
        (
            {"selector": {"matchExpressions": [{"key": "app", "operator": "In"}]}},
            r"spec.selector.matchExpressions\[0\].values: .*need at least one value",
        ),
        (
            {"selector": {"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["x"]}]}},
            r"spec.selector.matchExpressions\[0\].values: .*take none",
        ),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_mistake_is_refused_by_the_name_of_its_field(
    installed: ControlPlane, changed: Object, complaint: str
) -> None:
    """Each kind of mistake is answered with the field and what may stand there."""
    subject = ledgergate(**changed)
    subject["spec"] = {key: value for key, value in subject["spec"].items() if value is not None}
    with pytest.raises(ControlPlaneError) as refused:
        create(installed, "default", subject, "--dry-run=server")
    assert re.search(complaint, str(refused.value), re.DOTALL), refused.value


def test_a_name_that_fits_no_annotation_is_refused(installed: ControlPlane) -> None:
    """A LedgerGate's name becomes part of an annotation's, which may have 63 characters."""
    subject = ledgergate()
    subject["metadata"]["name"] = "x" * 64
    with pytest.raises(ControlPlaneError, match="at most 63 characters"):
        create(installed, "default", subject, "--dry-run=server")


def test_an_empty_selector_means_every_pod(installed: ControlPlane) -> None:
    """`selector: {}` is accepted, as in a NetworkPolicy; leaving it out is not."""
    create(installed, "default", ledgergate(selector={}), "--dry-run=server")
