"""Any policy that a LedgerGate can ask for, for tests of laws."""

from datetime import timedelta

from hypothesis import strategies as st

from tests.admission_chain import NOW
from webhook.core.gate import Action, Mode, Policy, Readiness

policies = st.builds(
    Policy,
    mode=st.sampled_from(Mode),
    on_behind=st.sampled_from([Action.HOLD, Action.DENY, Action.WARN]),
    on_ahead=st.sampled_from([Action.ALLOW, Action.WARN, Action.DENY]),
    on_undeclared=st.sampled_from([Action.WARN, Action.HOLD, Action.DENY, Action.ALLOW]),
    on_unreachable=st.sampled_from([Action.LAST_KNOWN, Action.HOLD, Action.DENY, Action.ALLOW]),
    bypass_until=st.sampled_from([None, NOW, NOW + timedelta(hours=1)]),
    on_behind_workload=st.sampled_from([Action.WARN, Action.DENY]),
    readiness=st.sampled_from(Readiness),
)
