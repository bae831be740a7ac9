"""The options of a section: what follows its marker in SQL, or constants of a Python module."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from migrations.core.migration import SectionBody
from migrations.core.revision import canonical

if TYPE_CHECKING:
    from migrations.core.migration import AddProblem

_OPTIONS = {
    "up": "transaction:true, transaction:false, lock-timeout:2s, statement-timeout:30s, contract, "
    "compatible-from:REVISION",
    "down": "transaction:true, transaction:false, lock-timeout:2s, statement-timeout:30s, none",
}
_DURATION = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,3})?)(?P<unit>ms|s|min|h)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
TIMEOUTS = {"lock-timeout": "lock_timeout", "statement-timeout": "statement_timeout"}
"""Options that set a timeout, and the constant of a Python module that does."""


def parse_options(name: str, text: str, line: int, add_problem: AddProblem) -> tuple[SectionBody, str | None]:
    """Return the section that options describe, without its SQL, and the value of `compatible-from`.

    Args:
        name: Name of the section, up or down.
        text: The options, separated by blanks.
        line: Line of the marker.
        add_problem: Receives the line and the text of each problem.
    """
    section, contract, compatible_from = SectionBody(None), False, None
    for option in text.split():
        key, _, value = option.partition(":")
        if key == "transaction" and value in {"true", "false"}:
            section = replace(section, transactional=value == "true")
        elif key in TIMEOUTS and (seconds := parse_seconds(value)) is not None:
            section = with_timeout(section, key, seconds)
        elif option == "contract" and name == "up":
            contract = True
        elif key == "compatible-from" and value and name == "up":
            compatible_from = canonical(value)
        elif _is_of_another_tool(key):
            section = replace(section, unknown=(*section.unknown, option))
        else:
            add_problem(line, f"expected one of the options {_OPTIONS[name]}, got {option!r}")
    if contract is (compatible_from is None):
        add_problem(line, "expected `contract` and `compatible-from:REVISION` together, found one of them")
    return section, compatible_from


def _is_of_another_tool(name: str) -> bool:
    """Return whether an option resembles none of `_OPTIONS`, so that it is not a misspelt one of them.

    Like dbmate, ledgergate ignores such an option: the file may be written for another tool, too.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - few files have such an option

    known = [option.partition(":")[0].rstrip(",") for options in _OPTIONS.values() for option in options.split()]
    return not get_close_matches(name.lower().replace("_", "-"), known, cutoff=0.7)


def with_timeout(section: SectionBody, option: str, seconds: float) -> SectionBody:
    """Return the section with the timeout that an option sets."""
    if option == "lock-timeout":
        return replace(section, lock_timeout=seconds)
    return replace(section, statement_timeout=seconds)


def parse_seconds(duration: str) -> float | None:
    """Parse a duration such as 500ms, 2s, 1min or 0, the only one without a unit; None when it is malformed."""
    match = _DURATION.fullmatch(duration)
    if match is None or (match["unit"] is None and float(match["number"])):
        return None
    return float(match["number"]) * _SECONDS[match["unit"] or "s"]
