"""Label selectors.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from webhook.api.objects import LabelSelector

_MATCH: Mapping[str, Callable[[str | None, frozenset[str]], bool]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,  # a missing label matches, as in Kubernetes
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
}

_TEXT: Mapping[str, Callable[[str, str], str]] = {
    "In": lambda key, values: f"{key} in ({values})",
    "NotIn": lambda key, values: f"{key} notin ({values})",
    "Exists": lambda key, _: key,
    "DoesNotExist": lambda key, _: f"!{key}",
}


@dataclass(frozen=True, slots=True)
class Selector:
    """A label selector whose terms must all match.

    Args:
        terms: label key, operator and values of each term; without a term every pod matches.
    """

    terms: tuple[tuple[str, str, frozenset[str]], ...] = ()

    @property
    def text(self) -> str:
        """The selector as the query parameter ``labelSelector`` has it; empty where every pod matches."""
        return ",".join(_TEXT[operator](key, ",".join(sorted(values))) for key, operator, values in self.terms)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Decide whether labels satisfy every term."""
        return all(_MATCH[operator](labels.get(key), values) for key, operator, values in self.terms)


def compile_selector(selector: LabelSelector) -> tuple[Selector, tuple[str, ...]]:
    """Compile a LedgerGate's selector.

    Returns:
        The selector, and what is wrong with it, each problem with its field. A term with a problem is left out, so
        that the gate selects more pods rather than fewer.
    """
    terms = [(key, "In", frozenset((value,))) for key, value in (selector.match_labels or {}).items()]
    problems: list[str] = []
    for index, term in enumerate(selector.match_expressions or ()):
        values = frozenset(term.values or ())
        field = f"spec.selector.matchExpressions[{index}]"
        if term.operator not in _MATCH:
            problems.append(f"{field}.operator: {term.operator!r} is not one of {', '.join(_MATCH)}")
        elif (term.operator in {"In", "NotIn"}) is not bool(values):
            problems.append(f"{field}.values: In and NotIn need values, Exists and DoesNotExist take none")
        else:
            terms.append((term.key, term.operator, values))
    return Selector(tuple(sorted(terms, key=lambda term: (term[0], term[1], sorted(term[2]))))), tuple(problems)
