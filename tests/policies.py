"""Policies that a LedgerGate can have, and the verdict of a gate that has one."""

from datetime import datetime, timedelta

from hypothesis import strategies as st

from migrations.core.snapshot import LedgerSnapshot
from tests.admission_chain import NOW
from webhook.core.gate import Action, Gate, Mode, Policy, Readiness
from webhook.core.requirement import Requirement
from webhook.core.selector import Selector
from webhook.core.verdict import Verdict, decide

policies = st.builds(
    Policy,
    mode=st.sampled_from(Mode),
    on_behind=st.sampled_from([Action.HOLD, Action.DENY, Action.WARN]),
    on_ahead=st.sampled_from([Action.ALLOW, Action.WARN, Action.DENY]),
    on_undeclared=st.sampled_from([Action.WARN, Action.HOLD, Action.DENY, Action.ALLOW]),
    on_unreachable=st.sampled_from([Action.LAST_KNOWN, Action.HOLD, Action.DENY, Action.ALLOW]),
    bypass_until=st.sampled_from([None, NOW, NOW + timedelta(hours=1), NOW + timedelta(hours=25)]),
    on_behind_workload=st.sampled_from([Action.WARN, Action.DENY]),
    readiness=st.sampled_from(Readiness),
)


def decided(
    required: Requirement, snapshot: LedgerSnapshot, policy: Policy, now: datetime = NOW, *, gate: str = "app"
) -> Verdict:
    """Decide under a gate with this policy."""
    return decide(Gate("ns", gate, Selector(), "pg", "ledgergate", policy=policy), required, snapshot, now)
