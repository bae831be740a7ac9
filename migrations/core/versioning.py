"""How a tool's ledger identifies a migration: which part of a file's name it records, and in which order."""

from __future__ import annotations

import re
from enum import StrEnum

# Compiled on first use, and then cached by `re`: the native ledger needs none of them, and `migrate up` starts faster.
_DIGITS = r"[0-9]+"
_NUMBERS = r"[0-9]+(?:\.[0-9]+)*\Z"
_DOTTED = r"(?s)[VB]?(?P<version>[0-9]+(?:[._][0-9]+)*)(?:__.*)?\Z"
_TIMESTAMP = r"(?s)(?P<first>[0-9]{13})-.*\Z|.*(?P<last>[0-9]{13})\Z"


class Versioning(StrEnum):
    """What makes two names one revision: they have the same key.

    A declared revision matches a recorded one when their keys are equal. A name that does not look like one of the
    tool's names is its own key.
    """

    NAME = "name"
    """The whole name."""
    LEADING_NUMBER = "leading-number"
    """The digits at the beginning, as a number: `0007_add_users` is 7 (dbmate, Rails, Ecto, sqlx, goose)."""
    DOTTED = "dotted"
    """Numbers separated by dots or underscores: `V1_2__add_users` is 1.2, and so is 1.2.0 (Flyway)."""
    PREFIX = "prefix"
    """The text before the first underscore: `20250126-1_add_users` is `20250126-1` (Atlas)."""
    TIMESTAMP = "timestamp"
    """13 digits, at the beginning of a file's name or at the end of a class's name: `1700000000000-AddUsers` and
    `AddUsers1700000000000` are one revision (TypeORM)."""

    def key(self, name: str) -> str:
        """Return what identifies the revision with this canonical name."""
        match self:
            case Versioning.NAME:
                return name
            case Versioning.LEADING_NUMBER:
                digits = re.match(_DIGITS, name)
                return str(int(digits[0])) if digits else name
            case Versioning.DOTTED:
                dotted = re.match(_DOTTED, name)
                return _normalized(dotted["version"]) if dotted else name
            case Versioning.PREFIX:
                return name.partition("_")[0] or name
            case Versioning.TIMESTAMP:
                stamp = re.match(_TIMESTAMP, name)
                return (stamp["first"] or stamp["last"]) if stamp else name

    def sort_key(self, name: str) -> tuple[tuple[int, ...], str]:
        """Return what the tool sorts by: the numbers of a numeric key, else the key, which comes before all numbers."""
        key = self.key(name)
        if self in {Versioning.NAME, Versioning.PREFIX} or not re.match(_NUMBERS, key):
            return (), key
        return tuple(map(int, key.split("."))), ""


def _normalized(version: str) -> str:
    """Return a dotted version without leading zeros in its parts and without zero parts at its end."""
    parts = [int(part) for part in re.split("[._]", version)]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return ".".join(map(str, parts))
