"""Properties of every verdict, whatever the ledger, the pod and the policy."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import assume, example, given
from hypothesis import strategies as st

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.revision import Revision, RevisionError, declare
from migrations.core.snapshot import Fault, LedgerSnapshot
from migrations.core.versioning import Versioning
from migrations.dialects.dialect import Dialect
from tests.admission_chain import NOW
from tests.policies import decided, policies
from webhook.core.gate import Action, Mode, Policy
from webhook.core.history import RecalledLedger
from webhook.core.requirement import Requirement
from webhook.core.verdict import Reason

NAMES = [f"2026010{day}000000_m{day}" for day in range(1, 8)]

states = st.sampled_from(State)
names = st.sampled_from(NAMES)
# Small alphabets: all of Unicode costs hypothesis a second, once, and finds nothing more.
PRINTABLE = "ab_-.0é漢😀"
long_names = st.text(PRINTABLE, min_size=1, max_size=512) | st.text(PRINTABLE, min_size=500, max_size=512)
odd_names = st.text(PRINTABLE + "+ \n\t\0\x1b\u202e\U000e0001", min_size=1, max_size=600)


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Return a ledger with some of the names in any state, some of them contract migrations."""
    records = []
    for name in sorted(draw(st.sets(names))):
        state = draw(st.sampled_from([State.APPLIED, State.APPLIED, State.APPLIED, State.RUNNING, State.FAILED]))
        boundary = draw(st.none() | st.sampled_from([found for found in NAMES if found <= name]))
        records.append(Record(name, state, compatible_from=boundary))
    return Ledger.of(records)


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    """Return a requirement: a revision in short or long form, none or an invalid one, with or without the migrator."""
    migrates = draw(st.booleans())
    kind = draw(st.sampled_from(["short", "long", "none", "invalid"]))
    if kind == "none":
        return Requirement(migrates=migrates)
    if kind == "invalid":
        return Requirement(invalid=draw(odd_names), migrates=migrates)
    known = sorted(draw(st.sets(names, min_size=1)))
    return Requirement(declare(known) if kind == "long" else Revision(known[-1]), migrates=migrates)


faults = st.sampled_from(Fault)
snapshots = st.one_of(
    st.builds(LedgerSnapshot, ledgers(), st.just(NOW), st.none() | faults),
    st.builds(LedgerSnapshot, ledgers(), st.none(), faults),
    st.builds(LedgerSnapshot, st.none(), st.none(), faults),
)


def _dirty_at_or_below(name: str, ledger: Ledger) -> bool:
    return any(record.state is not State.APPLIED and record.revision <= name for record in ledger.records)


def _shut_out(name: str, ledger: Ledger) -> bool:
    return any(
        record.state is State.APPLIED and record.compatible_from is not None and record.compatible_from > name
        for record in ledger.records
    )


@given(ledgers(), names, policies)
def test_what_the_ledger_holds_complete_is_good(ledger: Ledger, name: str, policy: Policy) -> None:
    """A pod whose revision and all below it are applied may run, unless a contract or onAhead forbids it."""
    applied = [found for found in ledger.applied if found <= name]
    if name not in applied or _dirty_at_or_below(name, ledger) or _shut_out(name, ledger):
        return
    if policy.on_ahead is Action.DENY and ledger.head != name:
        return
    for expected in (Revision(name), declare(applied)):
        assert decided(Requirement(expected), LedgerSnapshot(ledger, NOW), policy, NOW).outcome.good


def _foreign(history: History, applied: list[str]) -> Ledger:
    """Return the ledger of a tool that records whole names, and as many of them as this kind of history does."""
    kept = applied[-1:] if history in {History.NUMBER, History.HEADS} else applied
    versioning = Versioning.LEADING_NUMBER if history is History.NUMBER else Versioning.NAME
    dialect = Dialect(
        name="test",
        table="t",
        columns=frozenset(),
        parse=lambda row: Record(row["name"], State.APPLIED),
        history=history,
        versioning=versioning,
        directory=lambda _directory: (),
        programs=(),
    )
    return dialect.parse_ledger({"name": name} for name in kept)


@given(st.sampled_from(History), st.integers(1, len(NAMES)), st.integers(1, len(NAMES)), st.booleans())
def test_every_kind_of_ledger_admits_what_it_has_and_holds_what_it_lacks(
    history: History, applied: int, known: int, declared: bool
) -> None:
    """An image is admitted if the ledger has every migration that the image contains, and held if one is missing.

    For a ledger of heads that follows from the former heads, or from the ancestors that the image declares.
    """
    ledger = _foreign(history, NAMES[:applied]).with_former_heads(NAMES[: applied - 1])
    expected = Revision(NAMES[known - 1])
    if history in {History.NAMES, History.EXECUTION}:
        expected = declare(NAMES[:known])
    ancestors = frozenset(NAMES[: known - 1]) if declared else None
    verdict = decided(Requirement(expected, ancestors=ancestors), LedgerSnapshot(ledger, NOW), Policy(), NOW)
    assert verdict.outcome.good is (known <= applied)
    if known == applied:
        assert verdict.reason is Reason.MATCHES
    elif known < applied:
        assert verdict.reason is Reason.AHEAD
    else:
        assert verdict.reason is Reason.BEHIND


@given(st.integers(1, len(NAMES)), st.integers(1, len(NAMES)))
def test_declared_ancestors_replace_the_former_heads(applied: int, known: int) -> None:
    """An image that declares its ancestors is held below its own revision and admitted above it, without a history."""
    ledger = _foreign(History.HEADS, NAMES[:applied])
    ancestors = frozenset(NAMES[: known - 1])
    verdict = decided(
        Requirement(Revision(NAMES[known - 1]), ancestors=ancestors), LedgerSnapshot(ledger, NOW), Policy(), NOW
    )
    assert verdict.outcome.good is (known <= applied)


@given(requirements(), snapshots, policies)
def test_audit_never_holds_or_denies(requirement: Requirement, snapshot: LedgerSnapshot, policy: Policy) -> None:
    """Under Audit every pod may start."""
    if policy.mode is Mode.AUDIT:
        assert decided(requirement, snapshot, policy, NOW).outcome.good


@given(requirements(), snapshots, policies)
def test_audit_changes_the_outcome_only(requirement: Requirement, snapshot: LedgerSnapshot, policy: Policy) -> None:
    """The reason is the same under both modes, so that Audit shows what Enforce would do."""
    both = [decided(requirement, snapshot, replace(policy, mode=mode), NOW) for mode in Mode]
    assert both[0].reason is both[1].reason


@given(ledgers(), names, policies, st.none() | faults, st.booleans())
def test_what_the_ledger_lacks_is_never_good(
    ledger: Ledger, name: str, policy: Policy, fault: Fault | None, seeded: bool
) -> None:
    """Under Enforce a pod whose revision the ledger lacks starts only where the policy explicitly allows it."""
    bypassed = policy.bypass_until is not None and policy.bypass_until > NOW
    if policy.mode is Mode.AUDIT or bypassed or ledger.contains(name):
        return
    if policy.on_behind is Action.WARN or (fault is not None and policy.on_unreachable is Action.ALLOW):
        return
    snapshot = LedgerSnapshot(ledger, None if seeded and fault else NOW, fault)
    assert not decided(Requirement(Revision(name)), snapshot, policy, NOW).outcome.good


@given(requirements(), ledgers(), policies, faults)
def test_last_known_stays_good(requirement: Requirement, ledger: Ledger, policy: Policy, fault: Fault) -> None:
    """A verdict that was good by the last snapshot stays good when the ledger cannot be read.

    A ledger that was not read yet is another matter: a controller is at work, and decides in a moment.
    """
    assume(fault is not Fault.PENDING)
    before = decided(requirement, LedgerSnapshot(ledger, NOW), policy, NOW)
    after = decided(requirement, LedgerSnapshot(ledger, NOW, fault), policy, NOW)
    if before.outcome.good and policy.on_unreachable is Action.LAST_KNOWN:
        assert after.outcome.good


@given(requirements(), ledgers(), policies, faults)
@example(
    Requirement(Revision(NAMES[0]), migrates=True),
    Ledger.of([Record(name, State.APPLIED, compatible_from=name) for name in NAMES[:2]]),
    Policy(),
    Fault.UNREAD,
)
def test_last_known_opens_nothing(requirement: Requirement, ledger: Ledger, policy: Policy, fault: Fault) -> None:
    """A verdict that was bad by the last snapshot stays bad when the ledger cannot be read: an outage opens no gate."""
    before = decided(requirement, LedgerSnapshot(ledger, NOW), policy, NOW)
    after = decided(requirement, LedgerSnapshot(ledger, NOW, fault), policy, NOW)
    if not before.outcome.good and policy.on_unreachable is Action.LAST_KNOWN:
        assert not after.outcome.good


@given(st.lists(names, min_size=1, unique=True).map(sorted), names, policies)
def test_a_seeded_ledger_answers_without_the_gap_check(known: list[str], extra: str, policy: Policy) -> None:
    """Where a status has no counts and digests, only the name of a long form is compared in an outage."""
    if policy.on_unreachable is not Action.LAST_KNOWN or policy.on_ahead is Action.DENY:
        return
    image = declare(sorted({extra, *known}))
    newest = RecalledLedger((Record(image.name, State.APPLIED),))
    verdict = decided(Requirement(image), LedgerSnapshot(newest, None, Fault.UNREAD), policy, NOW)
    assert verdict.outcome.good


@st.composite
def odd_ledgers(draw: st.DrawFn) -> Ledger:
    """Return a ledger with names as another tool's table may contain them."""
    records = [
        Record(name, draw(states), compatible_from=draw(st.none() | odd_names), error="password=hunter2 at 10.0.0.7")
        for name in draw(st.lists(odd_names | long_names, max_size=4))
    ]
    return Ledger.of(records)


@given(
    st.text("abcdefgh-.", min_size=1, max_size=253),
    long_names,
    st.none() | odd_names,
    odd_ledgers(),
    policies,
    st.none() | faults,
)
def test_messages_are_one_short_line(
    gate: str, name: str, invalid: str | None, ledger: Ledger, policy: Policy, fault: Fault | None
) -> None:
    """A message is one printable line that fits an Event, and contains nothing of a recorded error."""
    try:
        expected = None if invalid is not None else Revision.parse(name)
    except RevisionError:
        return
    requirement = Requirement(expected, invalid)
    verdict = decided(requirement, LedgerSnapshot(ledger, NOW, fault), policy, gate=gate)
    assert verdict.message.isprintable()
    assert 10 < len(verdict.message) <= 330
    assert "hunter2" not in verdict.message
    assert "10.0.0.7" not in verdict.message


@given(requirements(), snapshots, policies, st.datetimes(timezones=st.just(UTC)))
def test_messages_do_not_depend_on_the_time(
    requirement: Requirement, snapshot: LedgerSnapshot, policy: Policy, now: datetime
) -> None:
    """The same situation makes the same Event: apart from a bypass, the time changes nothing."""
    then = decided(requirement, snapshot, policy, now)
    verdict = decided(requirement, snapshot, policy, NOW)
    if Reason.BYPASSED not in {then.reason, verdict.reason}:
        assert then == verdict
