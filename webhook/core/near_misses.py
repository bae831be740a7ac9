"""Find declarations without effect, such as a misspelt annotation, and word a hint about each. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from webhook.api.namespace import ADMISSION_LABEL, UNDECLARED_LABEL, WAIT, Namespace, OptIn
from webhook.api.objects import API_GROUP, Container, Pod
from webhook.api.workload import Workload
from webhook.core.gate import Gate
from webhook.core.requirement import (
    ANCESTORS,
    ANCESTORS_PER_GATE,
    MAX_MIGRATES,
    MIGRATES,
    PER_GATE,
    REVISION,
    UNDECLARED,
)
from webhook.core.variables import is_set, literal_value

_MOST = 4
"""The most hints about one object: one shows the mistake, ten hide it."""

_OF_PODS = (REVISION, MIGRATES, ANCESTORS, UNDECLARED)
_OF_NAMESPACES = {ADMISSION_LABEL: (OptIn.ENABLED, OptIn.AUDIT), UNDECLARED_LABEL: (WAIT,)}
_PREFIX = f"{API_GROUP}/"
_OURS = (_PREFIX, PER_GATE, ANCESTORS_PER_GATE)
_SIMILAR = 0.85  # of difflib: one letter wrong, missing or too many
_SIMILAR_VALUE = 0.7  # of short words, such as `waits`, `enable`
_SHOWN = 56


def find_near_misses(pod: Pod, gates: Sequence[Gate]) -> tuple[str, ...]:
    """Return hints about a pod that is selected by these gates; none where no gate selects it."""
    if not gates:
        return ()
    found = (*_of_annotations(pod, gates), *_of_readiness(pod, gates), *_of_variables(pod, gates))
    return found[:_MOST]


def find_misplaced(workload: Workload) -> tuple[str, ...]:
    """Return hints about annotations that a workload has and its pod template has not: there they have no effect."""
    pod, own = workload.pod, workload.metadata.annotations or {}
    if pod is None:
        return ()
    names = [name for name in own if name in _OF_PODS or name.startswith((PER_GATE, ANCESTORS_PER_GATE))]
    return tuple(
        f"annotation {_cut(name)} is on {_cut(workload.title)}, not on its pod template (spec.template.metadata): "
        "no pod has it"
        for name in sorted(names)
        if name not in pod.annotations
    )[:_MOST]


def find_unknown_labels(namespace: Namespace) -> tuple[str, ...]:
    """Return hints about labels of a namespace that have no effect: the name is misspelt, or the value unknown."""
    ours = {name: value for name, value in (namespace.metadata.labels or {}).items() if name.startswith(_PREFIX)}
    return tuple(filter(None, (_of_label(name, ours[name]) for name in sorted(ours))))[:_MOST]


def _of_label(name: str, value: str) -> str:
    values = _OF_NAMESPACES.get(name)
    if values is None:
        near = get_close_matches(name[:100], _OF_NAMESPACES, 1, _SIMILAR)
        return f"namespace label {_cut(name)} is not known: did you mean {near[0]}?" if near else ""
    if value in values:
        return ""
    near = get_close_matches(value.lower(), values, 1, _SIMILAR_VALUE)
    meant = f"did you mean {near[0]}?" if near else f"expected {' or '.join(values)}"
    return f"namespace label {name}={_cut(value)} is not known and has no effect: {meant}"


def _of_annotations(pod: Pod, gates: Sequence[Gate]) -> Iterator[str]:
    if MIGRATES in pod.annotations:
        yield from _of_migrates(pod.annotations[MIGRATES], gates)
    if UNDECLARED in pod.annotations:
        yield f"annotation {UNDECLARED} has no effect: this pod is selected by {_listed(gate.name for gate in gates)}"
    ours = [name for name in pod.annotations if name.startswith(_OURS) and name not in _OF_PODS]
    names = {gate.name for gate in gates} if ours else set()
    for annotation in sorted(ours):
        for prefix in (PER_GATE, ANCESTORS_PER_GATE):
            if annotation.startswith(prefix) and annotation.removeprefix(prefix) not in names:
                yield f"annotation {_cut(annotation)} names no LedgerGate that selects this pod: {_listed(names)} would"
        if annotation.startswith(_PREFIX):
            for similar in get_close_matches(annotation[:100], _OF_PODS, 1, _SIMILAR):
                yield f"annotation {_cut(annotation)} is not known: did you mean {similar}?"


def _of_migrates(text: str, gates: Sequence[Gate]) -> Iterator[str]:
    names = {gate.name for gate in gates}
    migrates = {name for part in text[:MAX_MIGRATES].split(",") if (name := part.strip())}
    if migrates and not migrates & names:
        yield f"annotation {MIGRATES} names {_listed(migrates)}, but this pod is selected by {_listed(names)}"


def _of_readiness(pod: Pod, gates: Sequence[Gate]) -> Iterator[str]:
    if not pod.spec.readiness_gates:
        return
    names = {gate.name for gate in gates}
    for gate in pod.spec.readiness_gates:
        name = gate.condition_type.removeprefix(_PREFIX)
        if gate.condition_type.startswith(_PREFIX) and name not in names:
            yield f"readiness gate {_cut(gate.condition_type)} names no LedgerGate that selects this pod: always True"


def _of_variables(pod: Pod, gates: Sequence[Gate]) -> Iterator[str]:
    for gate in gates:
        if not gate.expect_env or REVISION in pod.annotations or f"{PER_GATE}{gate.name}" in pod.annotations:
            continue
        containers = [*(pod.spec.containers or ()), *(pod.spec.init_containers or ())]
        yield from _of_variable(containers, gate.expect_env)


def _of_variable(containers: Iterable[Container], name: str) -> Iterator[str]:
    having = [each for each in containers if is_set(each, name)]
    values = {each.name: literal_value(each, name) for each in having}
    known = {value for value in values.values() if value is not None}
    if having and not known:
        yield f"variable {_cut(name)} has no literal value (valueFrom, or an unknown $(NAME)): it does not count"
    elif len(known) > 1:
        first = next(each for each, value in values.items() if value is not None)
        yield f"variable {_cut(name)} differs between {_listed(values)}: the one in {_cut(first)} counts"


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""  # noqa: PLR2004 - what a line has room for
    return ", ".join(map(_cut, ordered[:3])) + more


def _cut(text: str) -> str:
    clean = "".join(character if character.isprintable() else "?" for character in text[: _SHOWN + 1])
    return clean if len(clean) <= _SHOWN else f"{clean[: _SHOWN - 1]}…"
