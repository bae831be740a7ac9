"""Label selectors.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

import re
from collections.abc import Callable, Iterable, Mapping
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


_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_DOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")
_LONGEST_DOMAIN = 253


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
        """Return whether labels satisfy every term."""
        return all(_MATCH[operator](labels.get(key), values) for key, operator, values in self.terms)

    def unmatched(self, labels: Mapping[str, str]) -> frozenset[str]:
        """Return the keys of the labels that do not satisfy a term."""
        return frozenset(key for key, operator, values in self.terms if not _MATCH[operator](labels.get(key), values))


def compile_selector(selector: LabelSelector) -> tuple[Selector, tuple[str, ...]]:
    """Compile a LedgerGate's selector.

    Returns:
        The selector, and what is wrong with it, each problem with its field. A term with a problem is left out, so
        that the gate selects more pods rather than fewer.
    """
    terms: list[tuple[str, str, frozenset[str]]] = []
    problems: list[str] = []
    for key, value in (selector.match_labels or {}).items():
        if wrong := _label_problem(key, (value,)):
            problems.append(f"spec.selector.matchLabels: {wrong}")
        else:
            terms.append((key, "In", frozenset((value,))))
    for index, term in enumerate(selector.match_expressions or ()):
        values = frozenset(term.values or ())
        field = f"spec.selector.matchExpressions[{index}]"
        if term.operator not in _MATCH:
            problems.append(f"{field}.operator: {term.operator!r} is not one of {', '.join(_MATCH)}")
        elif (term.operator in {"In", "NotIn"}) is not bool(values):
            problems.append(f"{field}.values: In and NotIn need values, Exists and DoesNotExist take none")
        elif wrong := _label_problem(term.key, values):
            problems.append(f"{field}: {wrong}")
        else:
            terms.append((term.key, term.operator, values))
    return Selector(tuple(sorted(terms, key=lambda term: (term[0], term[1], sorted(term[2]))))), tuple(problems)


def _label_problem(key: str, values: Iterable[str]) -> str:
    """Return why no label can have this key or these values, which the CRD's schema does not check; empty if one can.

    https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
    """
    domain, slash, name = key.rpartition("/")
    right_domain = not slash or (len(domain) <= _LONGEST_DOMAIN and _DOMAIN.match(domain))
    if not (right_domain and _NAME.match(name)):
        return f"{key!r} is not the key of a label, such as app or example.com/app"
    wrong = sorted(value for value in values if value and not _NAME.match(value))
    return f"{wrong[0]!r} is not the value of a label: no pod can have it" if wrong else ""
