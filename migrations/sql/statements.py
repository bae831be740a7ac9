"""SQL lives in sql/*.sql, in blocks that begin with `-- name: NAME`; what is put into it is quoted here alone.

ValueError
└── IdentifierError   a name that no schema or table can have
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLOCK = re.compile(r"^-- name: (?P<name>\w+)\n(?:--[^\n]*\n)*(?P<text>.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)


class IdentifierError(ValueError):
    """A name that no schema or table can have."""


def load(name: str) -> Mapping[str, str]:
    """Read one .sql file of this package.

    Returns:
        The text of each named block, without the comment above it, which the server has no use for.
    """
    text = (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
    return {block["name"]: block["text"].strip() for block in _BLOCK.finditer(text)}


def quoted(*identifiers: str | None) -> str:
    """Quote identifiers and join them with a dot, leaving out those that are None.

    Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS

    Raises:
        IdentifierError: One is empty or holds a NUL.
    """
    given = [identifier for identifier in identifiers if identifier is not None]
    for identifier in given:
        if not identifier or "\0" in identifier:
            raise IdentifierError(f"expected the name of a schema or a table, got {identifier!r}")
    return ".".join('"' + identifier.replace('"', '""') + '"' for identifier in given)


def literal(value: str | float | None) -> str:
    """Write a value into a statement that can take no arguments: a message of several statements has none.

    The escape form means the same whatever `standard_conforming_strings` is.
    Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS-ESCAPE
    """
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\0", "")
    return f"E'{escaped}'"


def bind(sql: str, **texts: str) -> str:
    """Put quoted identifiers and literals in the places of `{name}`; braces of other text stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda place: texts.get(place[1], place[0]), sql)
