"""Verdicts under one gate: every row of the table of verdicts, under every policy."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.revision import Revision, declare
from migrations.core.snapshot import Fault, LedgerSnapshot
from tests.policies import decided
from webhook.core.gate import Action, Mode, Policy
from webhook.core.history import RecalledLedger
from webhook.core.requirement import Requirement
from webhook.core.verdict import Outcome, Reason

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
A, B, C = "20260101000000_a", "20260102000000_b", "20260103000000_c"
APPLIED, RUNNING, FAILED = State.APPLIED, State.RUNNING, State.FAILED


def ledger(*names: str, **dirty: State) -> Ledger:
    """Return a ledger with these names applied; a keyword is the last letter of another name, with its state."""
    others = [Record(next(name for name in (A, B, C) if name.endswith(key)), state) for key, state in dirty.items()]
    return Ledger.of(sorted([*(Record(name, APPLIED) for name in names), *others], key=lambda found: found.revision))


def contract(compatible_from: str) -> Ledger:
    """Return a ledger with A, B and the contract migration C applied."""
    last = Record(C, APPLIED, compatible_from=compatible_from)
    return Ledger.of([Record(A, APPLIED), Record(B, APPLIED), last])


def read(found: Ledger) -> LedgerSnapshot:
    return LedgerSnapshot(found, NOW)


def lost(found: Ledger | None) -> LedgerSnapshot:
    """Return a snapshot of a ledger that cannot be read now."""
    return LedgerSnapshot(found, None if found is None else NOW, Fault.UNREACHABLE)


def recalled(found: Ledger, oldest: str | None = None) -> RecalledLedger:
    """Return a ledger as a status keeps it, without counts and digests unless they are given."""
    return RecalledLedger(found.records, oldest=oldest)


def expects(name: str, *known: str) -> Requirement:
    """Return a requirement in short form, or in long form where the image's revisions are given."""
    return Requirement(expected=declare(known) if known else Revision(name))


@dataclass(frozen=True)
class Row:
    """A requirement and a snapshot with the expected reason, and an outcome or the policy's field that decides it."""

    requirement: Requirement
    snapshot: LedgerSnapshot
    reason: Reason
    by: Outcome | str
    bypassed: bool = field(default=False)


UNREACHABLE = Reason.UNREACHABLE
ROWS = {
    "head": Row(expects(C), read(ledger(A, B, C)), Reason.MATCHES, Outcome.ADMIT),
    "head, long": Row(expects(C, A, B, C), read(ledger(A, B, C)), Reason.MATCHES, Outcome.ADMIT),
    "ahead": Row(expects(B), read(ledger(A, B, C)), Reason.AHEAD, "on_ahead"),
    "ahead, long": Row(expects(B, A, B), read(ledger(A, B, C)), Reason.AHEAD, "on_ahead"),
    "late merge": Row(expects(C, A, C), read(ledger(A, B, C)), Reason.MATCHES, Outcome.ADMIT),
    "behind": Row(expects(C), read(ledger(A, B)), Reason.BEHIND, "on_behind"),
    "empty ledger": Row(expects(A), read(Ledger()), Reason.BEHIND, "on_behind"),
    "gap": Row(expects(C, A, B, C), read(ledger(A, C)), Reason.INCOMPLETE, "on_behind"),
    "other history": Row(expects(C, A, C), read(ledger(B, C)), Reason.INCOMPLETE, "on_behind"),
    "own revision failed": Row(expects(B), read(ledger(A, b=FAILED)), Reason.DIRTY, "on_behind"),
    "own revision running": Row(expects(B), read(ledger(A, b=RUNNING)), Reason.DIRTY, "on_behind"),
    "older one failed": Row(expects(B), read(ledger(B, a=FAILED)), Reason.DIRTY, "on_behind"),
    "behind a failed one": Row(expects(C), read(ledger(A, b=FAILED)), Reason.DIRTY, "on_behind"),
    "newer one failed": Row(expects(B), read(ledger(A, B, c=FAILED)), Reason.MATCHES, Outcome.ADMIT),
    "older, newer one runs": Row(expects(A), read(ledger(A, B, c=RUNNING)), Reason.AHEAD, "on_ahead"),
    "behind the barrier": Row(expects(A), read(contract(B)), Reason.INCOMPATIBLE, Outcome.DENY),
    "at the boundary": Row(expects(B), read(contract(B)), Reason.AHEAD, "on_ahead"),
    "the contract itself": Row(expects(C), read(contract(C)), Reason.MATCHES, Outcome.ADMIT),
    "undeclared": Row(Requirement(), read(ledger(A)), Reason.UNDECLARED, "on_undeclared"),
    "undeclared, unreachable": Row(Requirement(), lost(None), Reason.UNDECLARED, "on_undeclared"),
    "invalid": Row(Requirement(invalid="a+b"), read(ledger(A)), Reason.INVALID, Outcome.DENY),
    "never read": Row(expects(A), lost(None), UNREACHABLE, "unseen"),
    "was behind": Row(expects(B), lost(ledger(A)), UNREACHABLE, "unseen"),
    "was dirty": Row(expects(B), lost(ledger(A, b=FAILED)), UNREACHABLE, "unseen"),
    "had a gap": Row(expects(C, A, B, C), lost(ledger(A, C)), UNREACHABLE, "unseen"),
    "had it": Row(expects(B), lost(ledger(A, B)), UNREACHABLE, "seen"),
    "had it, from status": Row(expects(C, A, B, C), lost(recalled(ledger(A, C))), UNREACHABLE, "seen"),
    "had it, too old for the status": Row(expects(A), lost(recalled(ledger(B, C), oldest=B)), UNREACHABLE, "unknown"),
    "too old for the status": Row(expects(A), read(recalled(ledger(B, C), oldest=B)), Reason.UNDECIDED, "undecided"),
    "too new for the status": Row(expects(C), read(recalled(ledger(A, B), oldest=A)), Reason.BEHIND, "on_behind"),
    "unknown digest": Row(expects(B, A, B), read(recalled(ledger(A, B))), Reason.UNDECIDED, "undecided"),
    "not read yet": Row(expects(A), LedgerSnapshot(fault=Fault.PENDING), Reason.UNDECIDED, "undecided"),
    "was ahead": Row(expects(A), lost(ledger(A, B)), UNREACHABLE, "seen ahead"),
    "was incompatible": Row(expects(A), lost(contract(B)), UNREACHABLE, "seen bad"),
    "migrates": Row(Requirement(migrates=True), lost(None), Reason.SELF_MIGRATING, Outcome.ADMIT),
    "migrates, behind": Row(
        Requirement(Revision(C), migrates=True), read(ledger(A)), Reason.SELF_MIGRATING, Outcome.ADMIT
    ),
    "bypass": Row(expects(C), read(ledger(A)), Reason.BYPASSED, Outcome.WARN, bypassed=True),
    "bypass, invalid": Row(Requirement(invalid=""), lost(None), Reason.BYPASSED, Outcome.WARN, bypassed=True),
}
OUTCOME = {
    Action.ALLOW: Outcome.ADMIT,
    Action.WARN: Outcome.WARN,
    Action.HOLD: Outcome.HOLD,
    Action.DENY: Outcome.DENY,
}


def policies(*, bypassed: bool) -> Iterator[Policy]:
    """Yield every policy that the CRD allows."""
    behind = (Action.HOLD, Action.DENY, Action.WARN)
    ahead = (Action.ALLOW, Action.WARN, Action.DENY)
    undeclared = (Action.WARN, Action.HOLD, Action.DENY, Action.ALLOW)
    unreachable = (Action.LAST_KNOWN, Action.HOLD, Action.DENY, Action.ALLOW)
    until = NOW + timedelta(seconds=1) if bypassed else NOW - timedelta(seconds=1)
    for values in product(Mode, behind, ahead, undeclared, unreachable):
        yield Policy(*values, bypass_until=until)


def wanted(by: Outcome | str, policy: Policy) -> Outcome:
    """Return the outcome in the table under one policy; Audit never holds or denies."""
    outcome = by if isinstance(by, Outcome) else _by_policy(by, policy)
    return min(outcome, Outcome.WARN) if policy.mode is Mode.AUDIT else outcome


def _by_policy(by: str, policy: Policy) -> Outcome:
    if by.startswith("on_"):
        return OUTCOME[getattr(policy, by)]
    if by == "undecided":
        either_way = max(OUTCOME[policy.on_behind], OUTCOME[policy.on_ahead])
        return Outcome.WARN if either_way.good else Outcome.HOLD
    if policy.on_unreachable is not Action.LAST_KNOWN:
        return OUTCOME[policy.on_unreachable]
    if by == "seen" or (by == "seen ahead" and policy.on_ahead is not Action.DENY):
        return Outcome.ADMIT
    if policy.on_behind is Action.WARN and (by == "unseen" or (by == "unknown" and policy.on_ahead is not Action.DENY)):
        return Outcome.WARN
    return Outcome.HOLD


@pytest.mark.parametrize("name", ROWS)
def test_table(name: str) -> None:
    """Each row of the table has its reason, and the outcome that the policy names for it, under every policy."""
    row = ROWS[name]
    for policy in policies(bypassed=row.bypassed):
        verdict = decided(row.requirement, row.snapshot, policy, NOW)
        assert (verdict.reason, verdict.outcome) == (row.reason, wanted(row.by, policy)), (policy, verdict.message)
        assert verdict.gate == "app"


def test_a_bypass_ends_at_its_time() -> None:
    """At the time at which it ends, the gate already decides again."""
    policy = Policy(bypass_until=NOW)
    just_before = decided(expects(C), read(ledger(A)), policy, NOW - timedelta(microseconds=1))
    assert just_before.reason is Reason.BYPASSED
    assert decided(expects(C), read(ledger(A)), policy, NOW).reason is Reason.BEHIND


@pytest.mark.parametrize(
    ("row", "policy", "message"),
    [
        ("behind", Policy(), f"ledger app is at {B}, the pod expects {C}: the pod is held until it is applied"),
        (
            "empty ledger",
            Policy(on_behind=Action.DENY),
            (
                f"ledger app is at its beginning (nothing is applied), the pod expects {A}: "
                "the pod is denied until it is applied"
            ),
        ),
        (
            "gap",
            Policy(on_behind=Action.WARN),
            (
                f"ledger app has {C} but lacks an older revision that the pod's image contains: the pod starts all the "
                "same"
            ),
        ),
        (
            "own revision failed",
            Policy(),
            f"ledger app: {B} is recorded as failed; the pod expects {B}: the pod is held until it is settled",
        ),
        (
            "behind the barrier",
            Policy(),
            (
                f"contract migration {C} is applied to ledger app: images older than {B} cannot run, and the pod "
                f"expects {A}"
            ),
        ),
        (
            "behind",
            Policy(mode=Mode.AUDIT),
            f"audit only: ledger app is at {B}, the pod expects {C}: the pod is held until it is applied",
        ),
        (
            "ahead",
            Policy(on_ahead=Action.DENY),
            f"ledger app is at {C}, ahead of {B}, which the pod expects: onAhead denies it",
        ),
        ("had it", Policy(), f"ledger app cannot be read now; when last read it had {B}: the pod starts"),
    ],
)
def test_messages_say_what_is_expected_what_is_there_and_what_is_next(row: str, policy: Policy, message: str) -> None:
    """A message says what is expected, what the ledger has, and what happens next."""
    assert decided(ROWS[row].requirement, ROWS[row].snapshot, policy, NOW).message == message


HEADS = Ledger.of([Record("cafe", APPLIED)], History.HEADS)


@pytest.mark.parametrize(
    ("seen", "ancestors", "reason", "outcome"),
    [
        ((), None, Reason.BEHIND, Outcome.HOLD),
        ((), (), Reason.AHEAD, Outcome.ADMIT),
        ((), ("base", "cafe"), Reason.BEHIND, Outcome.HOLD),
        ((), ("base", "beef"), Reason.AHEAD, Outcome.ADMIT),
        (("base", "feed"), None, Reason.AHEAD, Outcome.ADMIT),
        (("feed", "cafe"), None, Reason.AHEAD, Outcome.ADMIT),
        (("cafe", "feed"), None, Reason.BEHIND, Outcome.HOLD),
    ],
)
def test_heads_without_a_history(
    seen: tuple[str, ...], ancestors: tuple[str, ...] | None, reason: Reason, outcome: Outcome
) -> None:
    """Ahead or behind follows from the declared ancestors and the former heads; after a downgrade a pod is behind."""
    required = Requirement(Revision("feed"), ancestors=None if ancestors is None else frozenset(ancestors))
    verdict = decided(required, read(HEADS.with_former_heads(seen)), Policy(), NOW)
    assert (verdict.reason, verdict.outcome) == (reason, outcome)
    assert ("is not known" in verdict.message) is (reason is Reason.BEHIND and ancestors is None)
    after = decided(required, lost(HEADS.with_former_heads(seen)), Policy(), NOW)
    assert after.outcome is outcome
    if ancestors is not None and outcome is Outcome.ADMIT:
        assert "was ahead of feed" in after.message


def test_last_known_does_not_claim_what_was_not_seen() -> None:
    """Where a gate only warns, the message does not claim that the ledger had a revision that it never had."""
    verdict = decided(expects(B), lost(ledger(A)), Policy(on_behind=Action.WARN), NOW)
    assert verdict.outcome is Outcome.WARN
    assert "is not known to contain" in verdict.message
