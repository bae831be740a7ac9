"""SQL lives in sql/*.sql, in blocks that begin with `-- name: NAME`; identifiers are quoted here and nowhere else.

ValueError
└── IdentifierError   a name that no schema or table can have
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLOCK = re.compile(r"^-- name: (?P<name>\w+)\n(?P<text>.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)


class IdentifierError(ValueError):
    """A name that no schema or table can have."""


def load(name: str) -> Mapping[str, str]:
    """Read one .sql file of this package.

    Returns:
        The text of each named block.
    """
    text = (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")
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


def bind(sql: str, **identifiers: str) -> str:
    """Put quoted identifiers in the places of `{name}`; braces of other text stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda place: identifiers.get(place[1], place[0]), sql)
