"""YAML as a tree whose nodes know where in the text they are, so that a text can be edited without being rewritten.

ValueError
└── ManifestError   a text that is not YAML, or that cannot be edited; the message has the line
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is twenty times as fast
_MERGE = "<<"
_MAX_DEPTH = 100


class ManifestError(ValueError):
    """Manifests that cannot be read or edited; the message has the line and what to do."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a mapping.

    Args:
        node: the value's own node.
    """

    node: yaml.Node

    @property
    def text(self) -> str | None:
        """The text of a scalar; None for anything else, and for null."""
        return self.node.value if isinstance(self.node, yaml.ScalarNode) and not self.empty else None

    @property
    def empty(self) -> bool:
        """Whether nothing is there: null, in whichever spelling."""
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == "tag:yaml.org,2002:null"


def parse_documents(text: str) -> list[yaml.Node]:
    """Parse every document of a text.

    Raises:
        ManifestError: it is not YAML.
    """
    try:
        return list(yaml.compose_all(text, _Loader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ManifestError(f"line {line}: expected YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ManifestError("expected YAML, got characters or a depth that it does not allow") from error


def entry(node: yaml.Node | None, *path: str) -> yaml.Node | None:
    """Return the node that a path of keys leads to; None where there is none."""
    for key in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for name, value in node.value if _is(name, key)), None)
    return node


def text_of(node: yaml.Node | None, *path: str) -> str:
    """Return the text of a scalar that a path leads to; empty where there is none."""
    found = entry(node, *path)
    return (Value(found).text or "") if found is not None else ""


def strings_of(node: yaml.Node | None) -> dict[str, str]:
    """Return a mapping's scalars, as labels are."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {
        name.value: value.value
        for name, value in node.value
        if isinstance(name, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)
    }


def plain(node: yaml.Node | None, depth: int = 0) -> Any:
    """Return a node as dictionaries, lists and strings; null is None."""
    if isinstance(node, yaml.MappingNode) and depth < _MAX_DEPTH:
        return {str(name.value): plain(value, depth + 1) for name, value in node.value}
    if isinstance(node, yaml.SequenceNode) and depth < _MAX_DEPTH:
        return [plain(each, depth + 1) for each in node.value]
    return Value(node).text if node is not None else None


def merges(node: yaml.MappingNode) -> bool:
    """Return whether a mapping takes entries from another by ``<<``."""
    return any(_is(name, _MERGE) for name, _ in node.value)


def shared(roots: list[yaml.Node]) -> frozenset[int]:
    """Return the identities of nodes that stand in several places, by an anchor and its aliases."""
    seen: set[int] = set()
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            found.add(id(node))
            continue
        seen.add(id(node))
        waiting += _children(node)
    return frozenset(found)


def line_of(node: yaml.Node) -> int:
    """Return the line on which a node begins, from 1."""
    return int(node.start_mark.line) + 1


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield name
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _is(node: yaml.Node, key: str) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == key
