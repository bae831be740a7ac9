"""The gates of one namespace, found by a pod's labels without a look at each of them. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from webhook.core.gate import Gate

_Label = tuple[str, str]


class GateIndex:
    """Gates by a label that a pod must have for the gate to select it.

    Most selectors have a term with one value, such as `app=gateway`. A gate without one is compared with every pod.

    Args:
        gates: the gates of a namespace.
    """

    def __init__(self, gates: Iterable[Gate]) -> None:
        self._by_label: dict[_Label, list[Gate]] = {}
        self._others: list[Gate] = []
        for gate in gates:
            label = _required_label(gate)
            if label is None:
                self._others.append(gate)
            else:
                self._by_label.setdefault(label, []).append(gate)

    def selecting(self, labels: Mapping[str, str]) -> Sequence[Gate]:
        """Return the gates that select these labels."""
        candidates = [*self._others]
        for label in labels.items():
            candidates += self._by_label.get(label, ())
        return [gate for gate in candidates if gate.selector.matches(labels)]


def _required_label(gate: Gate) -> _Label | None:
    """Return a label without which the gate selects no pod; None where no term asks for one value of one label."""
    for key, operator, values in gate.selector.terms:
        if operator == "In" and len(values) == 1:
            return key, next(iter(values))
    return None
