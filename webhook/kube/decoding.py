"""Decode the API server's JSON, however deeply it is nested.

msgspec recurses also into what it skips: about a thousand brackets inside each other raise RecursionError, in whatever
field they are, while Kubernetes decodes ten thousand. One such object would hide all others of its collection.
"""

import re
from typing import TypeVar

import msgspec

T = TypeVar("T")

DEPTH = 100
"""Levels that are kept of a document that is nested too deeply. No field that is read is as deep as that."""

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
"""A string, in which brackets mean nothing, or a bracket."""


def decode(document: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Decode a document.

    Args:
        kind: its type.

    Raises:
        msgspec.DecodeError: it is no JSON, or of another type.
    """
    try:
        return msgspec.json.decode(document, type=kind)
    except RecursionError:
        return msgspec.json.decode(prune(bytes(document)), type=kind)


def prune(document: bytes, depth: int = DEPTH) -> bytes:
    """Return a JSON document with `null` in place of each array and object that is nested deeper than `depth` levels.

    The result is JSON if and only if the rest of the document is.
    """
    kept: list[bytes] = []
    level = start = 0
    for token in _TOKEN.finditer(document):
        bracket = token[0]
        if bracket in b"[{":
            level += 1
            if level == depth + 1:
                kept += (document[start : token.start()], b"null")
        elif bracket in b"]}":
            if level == depth + 1:
                start = token.end()
            level -= 1
    if level <= depth:  # else it ends inside of what is left out
        kept.append(document[start:])
    return b"".join(kept)
