"""Text from outside (a database, a tenant, a server), made safe to show. Pure.

A terminal executes escape sequences, and text that runs from right to left hides what follows it.
"""

from __future__ import annotations

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MAX_ERROR = 1_000
"""Characters of an error's text that are kept: a server may send millions."""


def clean(text: str, *, lines: bool = False) -> str:
    """Return a text with a replacement for each character that is not printable.

    Shorten it first where it may be of any length: each character is looked at.

    Args:
        lines: Whether the text may have several lines, and tabs.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(each if each.isprintable() or each in kept else REPLACEMENT for each in text)


def shorten(text: str, limit: int = MAX_ERROR) -> str:
    """Return the beginning of a text that is longer than its limit, with an ellipsis and its length."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"
