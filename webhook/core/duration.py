"""Durations as Kubernetes writes them: 90s, 15m, 1h30m. Pure."""

import re
from datetime import timedelta

_FORM = re.compile(r"(?:[0-9]{1,5}(?:h|ms|m|s)){1,4}\Z")  # the pattern of spec.maxHold in the CRD
_PART = re.compile(r"([0-9]+)(h|ms|m|s)")
_UNITS = {"h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}


def parse_duration(text: str) -> timedelta:
    """Read a duration of whole numbers, each with its unit.

    Raises:
        ValueError: it is not a duration.
    """
    if not _FORM.match(text):
        raise ValueError(f"expected a duration such as 90s, 15m or 1h30m, got {text!r}")
    parts = _PART.findall(text)
    return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())


def format_duration(duration: timedelta) -> str:
    """Format a duration in its greatest units: 90s is 1m30s."""
    seconds = duration.total_seconds()
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number:g}{unit}" for number, unit in parts if number) or "0s"
