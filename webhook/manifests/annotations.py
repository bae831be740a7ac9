"""Set annotations in the text of manifests. Every other byte stays: comments, order, quotes, blank lines. Pure."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import yaml

from webhook.manifests.nodes import ManifestError, Value, entry, line_of, merges


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """A piece of text to put in place of another.

    Args:
        start: where it begins, in characters.
        end: where what it replaces ends.
        text: the new piece.
    """

    start: int
    end: int
    text: str


def set_annotations(
    text: str,
    templates: Iterable[yaml.MappingNode],
    annotations: Mapping[str, str],
    shared: frozenset[int],
    *,
    emptied: Collection[str] = (),
) -> str:
    """Return a text with annotations set in pod templates, in place of those of the same name.

    Args:
        text: the manifests.
        templates: mappings of it that have ``metadata``.
        annotations: by name.
        shared: identities of nodes that stand in several places; an edit of one would change them all.
        emptied: names whose values become empty where the template has them, since they are no longer true.

    Raises:
        ManifestError: a template takes its metadata from elsewhere in the text, by an alias or ``<<``.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    edits = set()
    for node in templates:
        stale = {name: "" for name in emptied if entry(node, "metadata", "annotations", name) is not None}
        edits |= set(_edits(text, node, {**stale, **annotations}, shared, newline))
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _edits(
    text: str, template: yaml.MappingNode, annotations: Mapping[str, str], shared: frozenset[int], newline: str
) -> Iterator[Edit]:
    place, path = template, ["metadata", "annotations"]
    while path:
        _check_own(place, shared)
        found = entry(place, path[0])
        if found is None and merges(place):
            raise _not_own(place)
        if found is None or Value(found).empty:
            value = _flow(path[1:], annotations)
            yield _insert(text, place, {path[0]: value}, newline) if found is None else _fill(found, value)
            return
        _check_own(found, shared)
        if not isinstance(found, yaml.MappingNode):
            raise ManifestError(f"line {line_of(found)}: expected {path[0]} to be a mapping")
        place, path = found, path[1:]
    missing = {}
    for name, wanted in annotations.items():
        current = entry(place, name)
        if current is None:
            missing[name] = _quoted(wanted)
        elif Value(current).text != wanted:
            _check_own(current, shared)
            empty = Value(current).empty
            yield _fill(current, _quoted(wanted)) if empty else _replace(current, _quoted(wanted), newline)
    if missing:
        yield _insert(text, place, missing, newline)


def _flow(path: list[str], annotations: Mapping[str, str]) -> str:
    """Return the value of the first missing key, on one line: JSON, which is YAML in every place."""
    value: Mapping[str, object] = annotations
    for key in reversed(path):
        value = {key: value}
    return json.dumps(value, ensure_ascii=False)


def _insert(text: str, node: yaml.MappingNode, entries: Mapping[str, str], newline: str) -> Edit:
    """Put entries before the first one of a mapping, so that its indentation is theirs."""
    if node.flow_style or not node.value:
        start = text.index("{", node.start_mark.index) + 1  # an anchor may stand before the brace
        inserted = ", ".join(f"{_quoted(name)}: {value}" for name, value in entries.items())
        return Edit(start, start, inserted + (", " if node.value else ""))
    first = node.value[0][0].start_mark
    between = newline + " " * first.column
    return Edit(first.index, first.index, "".join(f"{name}: {value}{between}" for name, value in entries.items()))


def _fill(node: yaml.Node, value: str) -> Edit:
    """Put a value where null is written, or nothing."""
    start, end = node.start_mark.index, node.end_mark.index
    return Edit(start, end, f" {value}" if start == end else value)


def _replace(node: yaml.Node, value: str, newline: str) -> Edit:
    start, end = node.start_mark.index, node.end_mark.index
    # The mark of a block scalar is behind its last line break.
    block = isinstance(node, yaml.ScalarNode) and node.style in {"|", ">"}
    return Edit(start, end, value + (newline if block else ""))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _check_own(node: yaml.Node, shared: frozenset[int]) -> None:
    if id(node) in shared:
        raise _not_own(node)


def _not_own(node: yaml.Node) -> ManifestError:
    return ManifestError(
        f"line {line_of(node)}: expected a pod template with metadata of its own, found an alias or `<<`: "
        "write them out, for example with `kustomize build` or `yq 'explode(.)'`"
    )
