"""The contract's table of verdicts, row by row and policy by policy: which pod is stored, with which message."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from migrations.core.ledger import Ledger, Record, State
from migrations.core.revision import declare
from migrations.core.snapshot import Fault, LedgerSnapshot
from tests.admission_chain import NOW, Ledgers, create
from webhook.core.gate import Action, Gate, Mode, Policy
from webhook.core.images import ExpectedImage, UnknownImage
from webhook.core.selector import Selector
from webhook.core.verdict import Outcome, Reason

A, B, C = "20260101000000_a", "20260102000000_b", "20260103000000_c"


def ledger(*records: Record | str, fault: Fault | None = None) -> LedgerSnapshot:
    rows = [Record(each, State.APPLIED) if isinstance(each, str) else each for each in records]
    return LedgerSnapshot(Ledger.of(rows), NOW, fault)


@dataclass(frozen=True)
class Row:
    """A situation.

    Args:
        by: the outcome, or the field of the policy that decides it.
        unread: what is known of the pod's image, where the gate asks it.
    """

    annotations: dict[str, str]
    snapshot: LedgerSnapshot
    by: Outcome | str
    bypassed: bool = False
    unread: UnknownImage | None = None


def expects(revision: str) -> dict[str, str]:
    return {"ledgergate.dev/revision": revision}


ROWS: dict[Reason, Row] = {
    Reason.MATCHES: Row(expects(B), ledger(A, B), Outcome.ADMIT),
    Reason.AHEAD: Row(expects(A), ledger(A, B), "on_ahead"),
    Reason.BEHIND: Row(expects(B), ledger(A), "on_behind"),
    Reason.INCOMPLETE: Row(expects(str(declare([A, B]))), ledger(B), "on_behind"),
    Reason.DIRTY: Row(expects(B), ledger(A, Record(B, State.FAILED)), "on_behind"),
    Reason.INCOMPATIBLE: Row(expects(A), ledger(A, Record(C, State.APPLIED, compatible_from=B)), Outcome.DENY),
    Reason.UNDECLARED: Row({}, ledger(A), "on_undeclared"),
    Reason.INVALID: Row(expects("a+b"), ledger(A), Outcome.DENY),
    Reason.UNREACHABLE: Row(expects(B), ledger(A, B, fault=Fault.UNREACHABLE), "on_unreachable"),
    Reason.UNDECIDED: Row(expects(B), LedgerSnapshot(fault=Fault.PENDING), "undecided"),
    Reason.SELF_MIGRATING: Row(expects(B) | {"ledgergate.dev/migrates": "app"}, ledger(A), Outcome.ADMIT),
    Reason.STILL_NEEDED: Row(
        expects(B) | {"ledgergate.dev/migrates": "app", "ledgergate.dev/contract": f"{C}:{B}"}, ledger(A), "on_contract"
    ),
    Reason.RESOLVING: Row(expects(B), ledger(A, B), "undecided", unread=UnknownImage("app:1")),
    Reason.UNRESOLVED: Row({}, ledger(A, B), "undecided", unread=UnknownImage("app:1", "it is not there; push it")),
    Reason.BYPASSED: Row(expects(B), ledger(A), Outcome.WARN, bypassed=True),
}
OUTCOME = {
    Action.ALLOW: Outcome.ADMIT,
    Action.WARN: Outcome.WARN,
    Action.HOLD: Outcome.HOLD,
    Action.DENY: Outcome.DENY,
    Action.LAST_KNOWN: Outcome.ADMIT,  # the row's last good reading had it
}
VALUES = {
    "on_behind": (Action.HOLD, Action.DENY, Action.WARN),
    "on_ahead": (Action.ALLOW, Action.WARN, Action.DENY),
    "on_undeclared": (Action.WARN, Action.HOLD, Action.DENY, Action.ALLOW),
    "on_contract": (Action.HOLD, Action.DENY, Action.WARN, Action.ALLOW),
    "on_unreachable": (Action.LAST_KNOWN, Action.HOLD, Action.DENY, Action.ALLOW),
}


def policies(*, bypassed: bool) -> Iterator[Policy]:
    """Every value of every field, under both modes."""
    until = NOW + timedelta(seconds=1) if bypassed else None
    for mode, (name, values) in product(Mode, VALUES.items()):
        for value in values:
            fields: dict[str, Any] = {name: value}
            yield Policy(mode, bypass_until=until, **fields)


def wanted(row: Row, policy: Policy) -> Outcome:
    if row.by == "undecided":  # held, unless the pod would start whatever the ledger has
        outcome = max(Outcome.WARN, OUTCOME[policy.on_behind], OUTCOME[policy.on_ahead])
        outcome = Outcome.HOLD if outcome > Outcome.WARN else Outcome.WARN
    else:
        outcome = row.by if isinstance(row.by, Outcome) else OUTCOME[getattr(policy, row.by)]
        if row.by == "on_contract":
            outcome = min(outcome, Outcome.HOLD)  # Deny holds, too, until pods were counted that need the old schema
    return min(outcome, Outcome.WARN) if policy.mode is Mode.AUDIT else outcome


def test_the_table_is_whole() -> None:
    """There is a row for each reason that one gate can have."""
    assert set(ROWS) == set(Reason) - {Reason.UNSELECTED}


@pytest.mark.parametrize("reason", ROWS)
@pytest.mark.parametrize("bound", [False, True], ids=["", "bound"])
@pytest.mark.parametrize("in_process", [True, False], ids=["policy", "no policy"])
def test_every_row_under_every_policy(reason: Reason, bound: bool, in_process: bool) -> None:
    """The pod is admitted (with a warning or without), held or denied as the table says."""
    row = ROWS[reason]
    pod: dict[str, Any] = {
        "metadata": {"labels": {"app": "x"}, "annotations": row.annotations},
        "spec": {
            "containers": [{"name": "main", "image": "app:1"}],
            **({"nodeName": "node-0"} if bound else {"schedulingGates": []}),
        },
    }
    for policy in policies(bypassed=row.bypassed):
        asked = ExpectedImage() if row.unread else None
        gate = Gate("ns", "app", Selector(), "pg", "ledgergate", policy=policy, expect_image=asked)
        created = create(Ledgers([gate], row.snapshot, unread=row.unread), pod, policy=in_process)
        outcome, final = wanted(row, policy), created.final
        assert final.verdict.reason is reason
        denied = outcome is Outcome.DENY or (outcome is Outcome.HOLD and bound)
        assert final.allowed is not denied, (policy, final)
        assert bool(final.message) is denied
        if denied:
            continue
        assert created.gated is (outcome is Outcome.HOLD)
        assert final.warnings == (() if outcome is Outcome.ADMIT else (final.verdict.message,))
        if outcome is not Outcome.HOLD:
            assert created.pod == pod, "a pod that may run is stored as it came"
