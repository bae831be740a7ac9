"""How a tool's ledger names a migration: what of a file's name it records, and how those names are ordered."""

from __future__ import annotations

import re
from enum import StrEnum

# Compiled when one is first needed, which `re` remembers: the native ledger, whose start-up counts, needs none.
_DIGITS = r"[0-9]+"
_NUMBERS = r"[0-9]+(?:\.[0-9]+)*\Z"
_DOTTED = r"(?s)[VB]?(?P<version>[0-9]+(?:[._][0-9]+)*)(?:__.*)?\Z"
_TIMESTAMP = r"(?s)(?P<first>[0-9]{13})-.*\Z|.*(?P<last>[0-9]{13})\Z"


class Versioning(StrEnum):
    """What makes two names one revision.

    A key is what identifies a revision in such a ledger. A declared revision and a recorded one are the same when their
    keys are; a name that does not look like one of the tool's is its own key.
    """

    NAME = "name"
    """The whole name."""
    VERSION = "version"
    """The digits that it begins with, as a number: `0007_add_users` is 7 (dbmate, Rails, Ecto, sqlx, goose)."""
    DOTTED = "dotted"
    """Numbers between dots or underscores: `V1_2__add_users` is 1.2, and so is 1.2.0 (Flyway)."""
    PREFIX = "prefix"
    """The text before the first underscore: `20250126-1_add_users` is `20250126-1` (Atlas)."""
    TIMESTAMP = "timestamp"
    """13 digits in front (a file's name) or at the end (a class's): `1700000000000-AddUsers` and
    `AddUsers1700000000000` are one (TypeORM)."""

    def key(self, name: str) -> str:
        """Give what identifies the revision of this canonical name."""
        match self:
            case Versioning.NAME:
                return name
            case Versioning.VERSION:
                digits = re.match(_DIGITS, name)
                return str(int(digits[0])) if digits else name
            case Versioning.DOTTED:
                dotted = re.match(_DOTTED, name)
                return _normal(dotted["version"]) if dotted else name
            case Versioning.PREFIX:
                return name.partition("_")[0] or name
            case Versioning.TIMESTAMP:
                stamp = re.match(_TIMESTAMP, name)
                return (stamp["first"] or stamp["last"]) if stamp else name

    def sort_key(self, name: str) -> tuple[tuple[int, ...], str]:
        """Give what the tool sorts by: numbers where the key is made of them, after names that have none."""
        key = self.key(name)
        if self in {Versioning.NAME, Versioning.PREFIX} or not re.match(_NUMBERS, key):
            return (), key
        return tuple(map(int, key.split("."))), ""


def _normal(version: str) -> str:
    """Write a dotted version without leading zeros in its parts, and without parts of zero at its end."""
    parts = [int(part) for part in re.split("[._]", version)]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return ".".join(map(str, parts))
