"""Judge a pod under every gate that selects it."""

from collections.abc import Iterable
from datetime import datetime

from migrations.core.snapshot import LedgerSnapshot
from webhook.gate import Gate
from webhook.objects import Pod
from webhook.requirement import declares, requirement
from webhook.verdict import Outcome, Reason, Verdict, decide, strictest

_OF_THE_LEDGER = {Reason.BEHIND, Reason.INCOMPLETE, Reason.DIRTY, Reason.INCOMPATIBLE, Reason.UNREACHABLE}


def judge(pod: Pod, gates: Iterable[tuple[Gate, LedgerSnapshot]], now: datetime) -> Verdict:
    """Decide about a pod under each of the gates that select it; the strictest verdict counts.

    Args:
        gates: those gates, each with what is known of its ledger.
        now: aware.
    """
    return combine(pod, judge_each(pod, gates, now))


def judge_each(pod: Pod, gates: Iterable[tuple[Gate, LedgerSnapshot]], now: datetime) -> tuple[Verdict, ...]:
    """Decide about a pod under each of the gates that select it, in their order; the arguments are those of judge."""
    return tuple(
        decide(gate.name, requirement(pod, gate.name, gate.expect_env), reading, gate.policy, now)
        for gate, reading in gates
    )


def combine(pod: Pod, verdicts: Iterable[Verdict]) -> Verdict:
    """Make one verdict of those of all the gates that select a pod."""
    return strictest(verdicts, declares=declares(pod))


def may_be_stale(verdict: Verdict) -> bool:
    """Tell whether a newer reading of the ledger could give a better verdict.

    A pod that is let go because the ledger is ahead is none: looking again would cost every old pod a query.
    """
    if verdict.reason is Reason.AHEAD:
        return not verdict.outcome.good
    return verdict.outcome is not Outcome.ADMIT and verdict.reason in _OF_THE_LEDGER
