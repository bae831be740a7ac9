"""libpq's other form of an address, `host=db dbname=app user=me`, which Go's tools take too.

Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from migrations.postgres.parameters import AddressError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAIR = re.compile(
    r"\s*(?P<key>[^\s=]+)\s*=\s*(?:'(?P<quoted>(?:[^'\\]|\\.)*)'|(?P<plain>(?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*)?)(?=\s|\Z)",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def parse_conninfo(text: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield keywords and values; a later one replaces an earlier one.

    Args:
        text: The whole address.
        name: The flag, variable or key that holds the text, for messages.

    Raises:
        AddressError: The text is invalid. The message shows nothing of it.
    """
    if re.match(r"[^='\\]*=[^='\\\s]*;", text):
        raise AddressError(
            f"{name} is a connection string of .NET or ODBC: write it as postgresql://USER:PASSWORD@HOST:PORT/NAME"
        )
    position = 0
    while text[position:].strip():
        pair = _PAIR.match(text, position)
        if pair is None:
            raise AddressError(
                f"{name} must begin with postgresql:// or postgres://, or be KEYWORD=VALUE separated by blanks, with "
                "single quotes around a value that has blanks"
            )
        value = pair["quoted"] if pair["quoted"] is not None else pair["plain"] or ""
        yield pair["key"], _ESCAPE.sub(r"\1", value)
        position = pair.end()
