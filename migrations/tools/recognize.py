"""Recognizing the migration tool that a command line starts."""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from migrations.dialects.catalogue import CONCRETE_DIALECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_DIALECTS: Mapping[str, str] = MappingProxyType(
    {program: dialect.name for dialect in CONCRETE_DIALECTS for program in dialect.programs}
)
"""Name of the dialect that each program writes."""
_JAVASCRIPT = frozenset(("bun", "bunx", "node", "npm", "npx", "pnpm", "pnpx", "ts-node", "tsx", "yarn"))
_PYTHONIC = frozenset(("pdm", "pipenv", "poetry", "py", "python", "uv", "uvx"))
_STARTERS = _JAVASCRIPT | _PYTHONIC | {"bundle", "env", "exec", "mix", "run", "run-script", "sh", "tini", "x"}
"""Programs that start another program, and words between the two."""
_PACKAGE_MANAGERS = frozenset(("bun", "npm", "pnpm", "yarn"))
_SCRIPTS = frozenset(("run", "run-script"))
_PYTHON = re.compile(r"python[0-9.]*")
_WORD = re.compile(r"[^\s\"';|&]+")


def recognize_dialect(command: Sequence[str], script: Callable[[str], str | None]) -> str | None:
    """Return the name of the dialect that the command writes; None where the command line does not show it.

    Depends on the command line alone, not on the database: the lock's key follows from the answer, and every run of the
    same command must take the same lock.

    Args:
        command: The program and its arguments.
        script: Returns a script of package.json by its name, for `npm run NAME`; None where there is none.
    """
    managed, before = _name(command[0]) in _PACKAGE_MANAGERS, ""
    for word in _programs(command):
        text = script(word) if managed and word not in _STARTERS else None
        if text is not None:
            return next((_DIALECTS[name] for name in _programs(_WORD.findall(text)) if name in _DIALECTS), None)
        if managed and before in _SCRIPTS:
            return None  # the name of a script says nothing: `npm run migrate` may start any tool
        if word in _DIALECTS:
            return _DIALECTS[word]
        if word not in _STARTERS:
            return None
        before = word
    return None


def _programs(words: Iterable[str]) -> Iterator[str]:
    """Return the words that may be programs, without flags and assignments of variables."""
    return (_name(word) for word in words if not word.startswith("-") and "=" not in word)


def _name(word: str) -> str:
    """Return a program's name without its directory and version: `knex@3` is knex, and python3.12 is python."""
    base = os.path.basename(word).partition("@")[0] or word  # noqa: PTH119 - a word of a command line
    return "python" if _PYTHON.fullmatch(base) else base
