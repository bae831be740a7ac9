"""A bypass opens a gate until its time, for a day at most, and names who opened it."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.admission_chain import NOW, Ledgers
from tests.admission_subjects import BEHIND, admission, gate
from webhook.admission.handlers import Result
from webhook.admission.review import Request
from webhook.api.objects import LedgerGate
from webhook.controller.gate_events import GateEvent, gate_events
from webhook.controller.held_pods import HeldCount
from webhook.core.gate import CLOCK_TOLERANCE, MAX_BYPASS, Policy
from webhook.core.status import GateObservation

LIMIT = MAX_BYPASS + CLOCK_TOLERANCE
MOMENT = timedelta(microseconds=1)
moments = st.timedeltas(-timedelta(days=4000), timedelta(days=4000)).map(lambda delta: NOW + delta)


@given(moments, moments)
@example(NOW + LIMIT, NOW)
@example(NOW + LIMIT + MOMENT, NOW)
@example(NOW, NOW)
def test_in_force_for_a_day_at_most(until: datetime, now: datetime) -> None:
    """Whatever stands in `spec.bypass.until`: before its end, and not a day and a minute earlier."""
    policy = Policy(bypass_until=until)
    assert policy.is_bypassed(now) is (until - LIMIT <= now < until)
    assert not (policy.is_bypassed(now) and policy.is_bypass_too_long(now))
    assert not Policy().is_bypassed(now)


@given(moments, moments)
@example(NOW + LIMIT, NOW)
def test_the_next_change_is_the_next_one(until: datetime, now: datetime) -> None:
    """Before it nothing changes, and after it the gate is open exactly if it was closed."""
    policy = Policy(bypass_until=until)
    left = policy.next_bypass_change(now)
    if left is None:
        assert until <= now
        return
    assert left > timedelta()
    assert policy.is_bypassed(now) is policy.is_bypassed(now + left - MOMENT)
    assert policy.is_bypassed(now) is not policy.is_bypassed(now + left)


def resource(until: datetime, **bypass: Any) -> LedgerGate:
    spec = {
        "selector": {},
        "database": {"secretRef": {"name": "pg"}},
        "ledger": {"dialect": "ledgergate"},
        "bypass": {"until": f"{until:%Y-%m-%dT%H:%M:%SZ}", "reason": "fire", **bypass},
    }
    return msgspec.convert({"metadata": {"namespace": "ns", "name": "app"}, "spec": spec}, LedgerGate)


@pytest.mark.parametrize(
    ("ahead", "allowed"),
    [
        (timedelta(hours=-1), True),
        (timedelta(hours=1), True),
        (timedelta(hours=24, seconds=30), True),
        (timedelta(hours=24, seconds=61), False),
        (timedelta(hours=25), False),
        (timedelta(days=10_000), False),
    ],
)
def test_a_later_end_is_refused(ahead: timedelta, allowed: bool) -> None:
    """With the limit and what to do for longer; a clock that is half a minute ahead is forgiven."""
    request = Request(uid="u", operation="UPDATE", namespace="ns", object=resource(NOW + ahead))
    answer = admission(Ledgers([], BEHIND)).limit_bypass(request)
    assert answer.allowed is allowed
    assert ("24 hours ahead at most; for longer, set spec.mode to Audit" in answer.message) is not allowed
    assert answer.result is (Result.ADMITTED if allowed else Result.DENIED)


@pytest.mark.parametrize(
    ("ahead", "by", "reason", "note"),
    [
        (1, "alice", "Bypassed", "opened by alice until 2026-01-26T13:00:00Z, so that every pod starts"),
        (1, "", "Bypassed", "opened by an unknown user until"),
        (-1, "alice", "BypassEnded", "the bypass by alice ended at 2026-01-26T11:00:00Z"),
        (25, "alice", "BypassTooLong", "set by alice, does not count: spec.bypass.until may be 24 hours ahead"),
    ],
)
def test_the_event_names_the_user(ahead: int, by: str, reason: str, note: str) -> None:
    """One Event about the bypass, whichever state it is in."""
    opened = gate(bypass_until=NOW + timedelta(hours=ahead), bypass_by=by, bypass_reason="fire")
    observation = GateObservation(BEHIND)
    status = {"conditions": [{"status": "True", "lastTransitionTime": "x"}]}
    found: list[GateEvent] = [
        each for each in gate_events(observation, opened, status, HeldCount(0, 0), NOW) if each.reason != "Live"
    ]
    assert [each.reason for each in found] == [reason]
    assert note in found[0].note
