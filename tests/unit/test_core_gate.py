"""A LedgerGate object is read into values, with a list of everything that is wrong with it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from webhook.api.objects import LedgerGate, LedgerGateSpec
from webhook.core.gate import Action, Gate, Mode, Policy, Readiness, RecordedRevision, parse_gate

CRD = Path(__file__).parents[2] / "manifests/chart/files/crd/ledgergates.yaml"
MINIMAL = {"selector": {}, "database": {"secretRef": {"name": "pg"}}, "ledger": {"dialect": "ledgergate"}}


def read(*, status: dict[str, Any] | None = None, **spec: Any) -> Gate:
    """Read a gate as the API server sends it; fields that are None are left out."""
    whole = {
        "metadata": {"namespace": "ns", "name": "app", "generation": 3},
        "spec": {key: value for key, value in (MINIMAL | spec).items() if value is not None},
        **({"status": status} if status else {}),
    }
    return parse_gate(msgspec.convert(whole, LedgerGate))


def test_a_minimal_gate_has_the_defaults() -> None:
    """Three fields are enough; the others have defaults."""
    gate = read()
    assert gate.key == ("ns", "app")
    assert gate.secret == "pg"
    assert gate.generation == 3
    assert gate.problems == ()
    assert gate.policy == Policy(
        Mode.ENFORCE, Action.HOLD, Action.ALLOW, Action.WARN, Action.LAST_KNOWN, bypass_until=None
    )
    assert (gate.schema, gate.table, gate.expect_env) == (None, None, None)


def test_the_defaults_are_those_of_the_crd() -> None:
    """A gate with the API server's defaults and one without them (an older CRD) are read alike."""
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    defaults = {key: value["default"] for key, value in schema["properties"].items() if "default" in value}
    ours = {
        field.encode_name: field.default
        for field in msgspec.structs.fields(LedgerGateSpec)
        if field.default is not msgspec.NODEFAULT and field.default is not None
    }
    assert {key: defaults[key] for key in ours} == ours


def test_the_actions_are_those_of_the_crd() -> None:
    """Every value that the schema allows is understood."""
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    actions = ("onBehind", "onAhead", "onUndeclared", "onUnreachable", "onBehindWorkload", "onContract")
    for field in ("mode", *actions, "readiness"):
        for value in schema["properties"][field]["enum"]:
            assert read(**{field: value}).problems == (), (field, value)


def test_every_field_is_read() -> None:
    """Every field of the spec is in the value."""
    gate = read(
        mode="Audit",
        expect={"env": "EXPECTED"},
        ledger={"dialect": "ledgergate", "schema": "app", "table": "moves"},
        onBehind="Deny",
        onAhead="Warn",
        onUndeclared="Hold",
        onUnreachable="Allow",
        onBehindWorkload="Deny",
        readiness="Live",
        maxHold="1h30m",
        bypass={"until": "2026-01-26T18:00:00+01:00", "reason": "fire", "by": "alice"},
    )
    assert gate.policy == Policy(
        Mode.AUDIT,
        Action.DENY,
        Action.WARN,
        Action.HOLD,
        Action.ALLOW,
        datetime(2026, 1, 26, 17, tzinfo=UTC),
        "fire",
        Action.DENY,
        Readiness.LIVE,
        timedelta(minutes=90),
        bypass_by="alice",
    )
    assert (gate.schema, gate.table, gate.expect_env) == ("app", "moves", "EXPECTED")
    assert gate.problems == ()


def test_every_problem_is_reported_at_once() -> None:
    """Each problem names its field and the allowed values."""
    gate = read(
        mode="Maybe",
        selector={"matchExpressions": [{"key": "a", "operator": "Like"}]},
        ledger={"dialect": "nosuch"},
        onBehind="LastKnown",
        onAhead="Hold",
        onUndeclared="",
        onUnreachable="Warn",
        onBehindWorkload="Hold",
        readiness=True,
        maxHold="15 minutes",
        bypass={"until": "soon"},
    )
    fields = [problem.split(":", maxsplit=1)[0] for problem in gate.problems]
    assert sorted(fields) == sorted(
        [
            "spec.mode",
            "spec.selector.matchExpressions[0].operator",
            "spec.ledger.dialect",
            "spec.onBehind",
            "spec.onAhead",
            "spec.onUndeclared",
            "spec.onUnreachable",
            "spec.onBehindWorkload",
            "spec.readiness",
            "spec.maxHold",
            "spec.bypass.until",
        ]
    )
    assert "'LastKnown' is not one of Hold, Deny, Warn" in "\n".join(gate.problems)


def test_a_bad_field_falls_back_to_its_default() -> None:
    """An invalid field never opens a gate: it is read as if the field were absent."""
    gate = read(mode="audit", onBehind="Ignore", bypass={"until": "2999"})
    assert gate.policy == Policy()


@pytest.mark.parametrize(
    ("until", "hour"),
    [("2026-01-26T18:00:00Z", 18), ("2026-01-26T18:00:00.123456789Z", 18), ("2026-01-26T18:00:00-02:00", 20)],
)
def test_a_bypass_is_an_aware_time(until: str, hour: int) -> None:
    """Every form of RFC 3339 that the API server accepts is read."""
    found = read(bypass={"until": until}).policy.bypass_until
    assert found is not None
    assert found.astimezone(UTC).hour == hour


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1h30m", timedelta(minutes=90)),
        ("500ms", timedelta(milliseconds=500)),
        ("0s", timedelta()),
        ("1h1m1s1ms", timedelta(hours=1, minutes=1, seconds=1, milliseconds=1)),
    ],
)
def test_durations_are_read(text: str, length: timedelta) -> None:
    """Each form that the schema allows; `ms` is not read as minutes."""
    assert read(maxHold=text).policy.max_hold == length


@pytest.mark.parametrize("text", ["", "15", "m", "-1m", "1.5h", "1d", "15m ", "999999h", "1h1h1h1h1h", "²m"])
def test_other_text_is_not_a_duration(text: str) -> None:
    """It is a problem, and the default is used."""
    gate = read(maxHold=text)
    assert gate.problems == (f"spec.maxHold: {text!r} is not a duration such as 90s, 15m or 1h30m",)
    assert gate.policy.max_hold == timedelta(minutes=8)


def test_an_unquoted_off_is_off() -> None:
    """YAML 1.1 reads `readiness: Off` as false."""
    assert read(readiness=False).policy == Policy()


def test_status_is_read_back() -> None:
    """After a restart the status says what was seen before it."""
    gate = read(
        status={
            "history": [
                {"revision": "a", "observedAt": "2026-01-01T00:00:00Z"},
                {"revision": "b", "compatibleFrom": "a"},
            ],
            "place": "3f2a",
            "migration": {"revision": "c", "holder": "job-1", "since": "2026-01-03T00:00:00Z"},
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T00:00:00Z"}],
        }
    )
    assert gate.history == {"a": RecordedRevision("2026-01-01T00:00:00Z"), "b": RecordedRevision(compatible_from="a")}
    assert gate.ledger_fingerprint == "3f2a"
    assert gate.migration is not None
    assert (gate.migration.revision, gate.migration.holder) == ("c", "job-1")
    assert list(gate.history) == ["a", "b"]
    assert gate.transitions == {"Ready": ("True", "2026-01-02T00:00:00Z")}


def test_a_status_is_no_change_of_the_gate() -> None:
    """Gates that differ only in status are equal: writing a status must not cause more work."""
    assert read() == read(status={"history": [{"revision": "a"}], "place": "x", "migration": {"revision": "a"}})
    assert read() != read(mode="Audit")


def test_an_invalid_term_selects_more_pods() -> None:
    """A term that cannot be read is left out, so that the gate selects more pods, not fewer."""
    gate = read(selector={"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]})
    assert gate.selector.matches({})
    assert gate.problems
