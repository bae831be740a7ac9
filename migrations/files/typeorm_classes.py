"""TypeORM's directory: files that export classes. Each class has in its name the 13 digits by which it is ordered."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from migrations.files.external import list_names, walk

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_FILE = re.compile(r"(?!.*\.d\.ts\Z).+\.[cm]?[jt]s")
# A class, what compilers make of one, and the property `name`, which TypeORM prefers to the name of the class.
_CLASS = re.compile(r"\b(?:class|function)\s+[\w$]*?([0-9]{13})\b|\bexports\.[\w$]*?([0-9]{13})\s*=\s*class\b")
_NAME = re.compile(r"""\bname\s*=\s*(["'`])[^"'`]*?([0-9]{13})\1""")
_FILE_STAMP = re.compile(r"([0-9]{13})-|.*?([0-9]{13})\.")


def _names(directory: Path) -> Iterable[str]:
    found: set[str] = set()
    for path in walk(directory, links=True, foreign=False):
        if _FILE.fullmatch(path.name) and not path.name.startswith("."):
            found.update(_stamps(path))
    return sorted(found)


def _stamps(path: Path) -> set[str]:
    """Return the numbers of the file's migrations; the number in the file's name where no class has one."""
    text = path.read_text(encoding="utf-8", errors="replace")
    classes = {first or second for first, second in _CLASS.findall(text)}
    names = {stamp for _, stamp in _NAME.findall(text)}
    if found := names if len(names) >= len(classes) else classes | names:
        return found
    stamp = _FILE_STAMP.match(path.name)
    return {stamp[1] or stamp[2]} if stamp else set()


list_typeorm = partial(list_names, _names, "1700000000000-AddUsers.ts")
"""List TypeORM's migrations by the number that its ledger keeps with the name of a class.

Which files TypeORM loads is a pattern of the data source, most often of every file below a directory.

Source: `importClassesFromDirectories` and `MigrationExecutor.getMigrations` of TypeORM 1.1
"""
