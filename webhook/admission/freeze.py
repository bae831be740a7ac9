"""Find changes of a held pod's labels by which a LedgerGate would no longer select it.

A pod that no gate selects any more is released, so a change of its labels would be a way around the verdict.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from webhook.core.gate import Gate


@dataclass(frozen=True, slots=True)
class Loss:
    """The gates that would not select a pod any more.

    Args:
        gates: their names, sorted.
        labels: the keys of the labels whose change makes the difference, sorted.
    """

    gates: tuple[str, ...]
    labels: tuple[str, ...]


def find_loss(selecting: Iterable[Gate], labels: Mapping[str, str]) -> Loss | None:
    """Return what a pod loses with other labels; None where every gate goes on selecting it.

    A change that keeps every gate is free, and one that adds a gate too. So no sequence of free changes loses a gate.

    Args:
        selecting: the gates that select it now.
        labels: the labels that it would have.
    """
    lost = [gate for gate in selecting if not gate.selector.matches(labels)]
    if not lost:
        return None
    keys = {key for gate in lost for key in gate.selector.unmatched(labels)}
    return Loss(tuple(sorted(gate.name for gate in lost)), tuple(sorted(keys)))
