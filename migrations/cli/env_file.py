"""Files of environment variables, as `.env`: NAME=VALUE in each line, quoted or not.

ValueError
└── EnvFileError    every problem of a file at once, each with its line

Source: https://github.com/joho/godotenv, by which dbmate reads them
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ENTRY = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.]*)[ \t]*[=:][ \t]*
    (?:'(?P<literal>[^']*)'|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^'"\n][^\n]*?)??)
    [ \t\r]*(?:(?<=\s)\#[^\n]*)?(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_NO_ENTRY = re.compile(r"[ \t\r]*(?:#[^\n]*)?(?:\n|\Z)")
_REFERENCE = re.compile(r"(?P<escaped>\\\$)|\$(?:\{(?P<braced>[A-Za-z_]\w*)\}|(?P<bare>[A-Z_][A-Z0-9_]*))", re.ASCII)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


class EnvFileError(ValueError):
    """A file that cannot be used.

    Attributes:
        problems: Each with file and line, and without a value, which may be a password.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read_env_file(path: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a file.

    Args:
        path: The file.
        environment: Variables that values may refer to, beside those of the lines before.

    Raises:
        EnvFileError: The file, or a line of it, cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EnvFileError(f"{path}: expected a readable file of NAME=VALUE in UTF-8: {error}") from error
    found: dict[str, str] = {}
    problems: list[str] = []
    position = 0
    while position < len(text):
        place = f"{path}:{text.count(chr(10), 0, position) + 1}"
        if blank := _NO_ENTRY.match(text, position):
            position = blank.end()
        elif entry := _ENTRY.match(text, position):
            position = entry.end()
            value, unknown = _value(entry, {**environment, **found})
            found[entry["name"]] = value
            problems += [
                f"{place}: {entry['name']} refers to ${name}, which is not set; single quotes keep a $"
                for name in unknown
            ]
        else:
            problems.append(
                f"{place}: expected NAME=VALUE, with quotes around a value that has quotes or begins with one"
            )
            position = text.find("\n", position) + 1 or len(text)
    if problems:
        raise EnvFileError(*problems)
    return found


def _value(entry: re.Match[str], known: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the value of an entry, with its references replaced, and the names that are not known."""
    if entry["literal"] is not None:
        return entry["literal"], []
    unknown: list[str] = []

    def replace(reference: re.Match[str]) -> str:
        if reference["escaped"]:
            return "$" if entry["quoted"] is None else r"\$"
        name = reference["braced"] or reference["bare"]
        if name not in known:
            unknown.append(name)
        return known.get(name, "") if entry["quoted"] is None else known.get(name, "").replace("\\", r"\\")

    if entry["quoted"] is None:
        return _REFERENCE.sub(replace, entry["plain"] or ""), unknown
    text = _REFERENCE.sub(replace, entry["quoted"])
    return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), text), unknown
