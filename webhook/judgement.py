"""Judge a pod under every gate that selects it."""

from collections.abc import Iterable
from datetime import datetime

from migrations.reading import Reading
from webhook.gate import Gate
from webhook.objects import Pod
from webhook.requirement import declares, requirement
from webhook.verdict import Verdict, decide, strictest


def judge(pod: Pod, gates: Iterable[tuple[Gate, Reading]], now: datetime) -> Verdict:
    """Decide about a pod under each of the gates that select it; the strictest verdict counts.

    Args:
        gates: those gates, each with what is known of its ledger.
        now: aware.
    """
    verdicts = (
        decide(gate.name, requirement(pod, gate.name, gate.expect_env), reading, gate.policy, now)
        for gate, reading in gates
    )
    return strictest(verdicts, declares=declares(pod))
