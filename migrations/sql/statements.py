"""Loads the SQL of this package and quotes what is inserted into it.

Each .sql file consists of blocks that begin with `-- name: NAME`. In a block `{time VALUE}` is a timestamptz, or null
where Python has no such time.

ValueError
└── IdentifierError   a text that cannot be the name of a schema or a table
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLOCK = re.compile(r"^-- name: (?P<name>\w+)\n(?:--[^\n]*\n)*(?P<text>.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)

# PostgreSQL's times reach from 4713 BC to 294276 and infinity, Python's from year 1 to 9999. The driver raises at any
# other, at the cost of the whole answer. A day is left at both ends for conversions between time zones.
_TIME = re.compile(r"\{time ([^{}]+)\}")
_PYTHON_TIME = r"case when \1 between timestamptz '0001-01-02 00:00+00' and '9999-12-30 00:00+00' then \1 end"


class IdentifierError(ValueError):
    """A text that cannot be the name of a schema or a table."""


def load(name: str) -> Mapping[str, str]:
    """Return the text of each block of a .sql file by its name, without the comment at its beginning."""
    text = (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
    return {block["name"]: _TIME.sub(_PYTHON_TIME, block["text"].strip()) for block in _BLOCK.finditer(text)}


def quoted(*identifiers: str | None) -> str:
    """Quote identifiers and join them with dots; None is left out.

    Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS

    Raises:
        IdentifierError: One is empty or contains a NUL.
    """
    given = [identifier for identifier in identifiers if identifier is not None]
    for identifier in given:
        if not identifier or "\0" in identifier:
            raise IdentifierError(f"expected the name of a schema or a table, got {identifier!r}")
    return ".".join('"' + identifier.replace('"', '""') + '"' for identifier in given)


def literal(value: str | float | None) -> str:
    """Format a value as a literal, for texts of several statements: PostgreSQL accepts no arguments with those.

    The E'' form means the same whatever `standard_conforming_strings` is. NUL, which no text can contain, is dropped.
    Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS-ESCAPE
    """
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\0", "")
    return f"E'{escaped}'"


def bind(sql: str, **texts: str) -> str:
    """Replace each `{name}` by its quoted identifier or literal; other text in braces stays as it is."""
    parts = _parts(sql).copy()
    parts[1::2] = [texts.get(place[1:-1], place) for place in parts[1::2]]
    return "".join(parts)


@cache  # with hundreds of small migrations, each of which binds the same statements, this shows
def _parts(sql: str) -> list[str]:
    """Return the parts of a block: each second one is a placeholder."""
    return re.split(r"(\{\w+\})", sql)
