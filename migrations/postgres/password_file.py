"""libpq's password file.

Source: https://www.postgresql.org/docs/current/libpq-pgpass.html, and passwordFromFile in libpq's fe-connect.c
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_PASSWORD = re.compile(r"(?:[^:\\]|\\.|\\\Z)*", re.DOTALL)


def find_password(text: str, hosts: Collection[str], port: str, database: str, user: str) -> str | None:
    """Return the password of the first line that matches; None without one.

    Args:
        text: Content of the file: lines of `host:port:database:user:password`, each but the password may be `*`.
        hosts: The names that the server has in the file; for the default socket these are its directory and localhost.
        port: Port of the server.
        database: Name of the database.
        user: Name of the role.
    """
    for line in text.split("\n"):
        for host in () if line.startswith("#") else hosts:
            rest: str | None = line.rstrip("\r")
            for value in (host, port, database, user):
                rest = None if rest is None else _after(rest, value)
            password = None if rest is None else _PASSWORD.match(rest)
            if password:
                return re.sub(r"\\(.)", r"\1", password[0], flags=re.DOTALL)
    return None


def _after(line: str, value: str) -> str | None:
    """Return what follows the first field and its colon; None where the field does not match the value.

    As in libpq, a colon of the value matches one of the field, escaped or not: `::1` is a host.
    """
    if line.startswith("*:"):
        return line[2:]
    position = 0
    for character in value:
        if line[position : position + 1] == "\\":
            position += 1
        if line[position : position + 1] != character:
            return None
        position += 1
    return line[position + 1 :] if line[position : position + 1] == ":" else None
