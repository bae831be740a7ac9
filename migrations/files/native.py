"""Loads a directory of migrations: every migration, or every problem with file and line.

A migration is `<14 digits>_<name>.sql` with `-- migrate:up` and `-- migrate:down` sections (dbmate's convention), or
`<14 digits>_<name>.py` with `async def up(connection)`. Migrations are ordered by their names.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

from migrations.core.migration import FilesError, Migration, Problem
from migrations.core.revision import canonical
from migrations.files.positions import LineCounter
from migrations.files.sql_sections import parse_sql

if TYPE_CHECKING:
    from pathlib import Path

    from migrations.core.migration import AddProblem, Sections

_NAME = re.compile(r"\d{14}_[^\s+]+", re.ASCII)
_SUFFIXES = (".sql", ".py")
# Other names that were probably meant as migrations: `.SQL`, Windows' hidden `.sql.txt`, and SQL with a timestamp.
_MEANT_AS_MIGRATION = r"(?i)\.(?:sql|py)(?:\.txt)?[\s.]*\Z|\A\d{14}_[^.]*(?:\.(?:psql|pgsql|plsql|ddl))?\Z"


def load_directory(directory: Path) -> tuple[Migration, ...]:
    """Load every migration of a directory, in order; other kinds of files, `_*` and `.*` are ignored.

    Raises:
        FilesError: With every problem of every file, and every file that was meant as a migration but is not named as
            one.
    """
    if not directory.is_dir():
        raise FilesError(
            [Problem(str(directory), 0, "expected a directory of migrations, found none; name it with --dir")]
        )
    found: dict[str, Migration] = {}
    problems: list[Problem] = []
    for path in _migration_files(directory, problems):
        try:
            migration = parse(path, path.read_bytes())
        except OSError as error:
            problems.append(Problem(_shown(path), 0, f"expected a file that can be read: {error.strerror}"))
            continue
        except FilesError as error:
            problems += error.problems
            continue
        other = found.setdefault(migration.revision, migration)
        if other is not migration:
            form = "" if path.name.isascii() else ", perhaps in another Unicode form"
            text = f"expected a revision of its own, but {other.path.name} has it too{form}"
            problems.append(Problem(str(path), 0, text))
    if problems:
        raise FilesError(problems)
    return tuple(found[revision] for revision in sorted(found))


def list_revisions(directory: Path) -> tuple[str, ...]:
    """Return the name of every migration of a directory, in order.

    Raises:
        FilesError: With every problem of every file.
    """
    return tuple(migration.revision for migration in load_directory(directory))


def _migration_files(directory: Path, problems: list[Problem]) -> list[Path]:
    """Return the files to parse, in the order of their names; add a problem for each that was meant as one."""
    try:
        with os.scandir(directory) as entries:
            named = sorted((entry for entry in entries if entry.name[0] not in "_."), key=lambda entry: entry.name)
    except OSError as error:
        raise FilesError([Problem(_shown(directory), 0, f"expected a readable directory: {error.strerror}")]) from error
    paths = []
    for entry in named:
        path = directory / entry.name
        try:
            if entry.name.endswith(_SUFFIXES):
                if entry.is_file():
                    paths.append(path)
                else:
                    problems.append(Problem(_shown(path), 0, _describe_no_file(path)))
            elif re.search(_MEANT_AS_MIGRATION, entry.name) and (entry.is_file() or entry.is_symlink()):
                text = "expected a name with `.sql` or `.py` at its end, in small letters; rename it or put `_` first"
                problems.append(Problem(_shown(path), 0, text))
        except OSError as error:  # such as a link that leads to itself
            problems.append(Problem(_shown(path), 0, f"expected a file that can be read: {error.strerror}"))
    return paths


def _describe_no_file(path: Path) -> str:
    if path.is_dir():
        what = "a directory, as a mount makes it whose source is missing"
    elif path.is_symlink():
        what = f"a link to {_shown(path.readlink())}, which does not exist"
    else:
        what = "something else"
    return f"expected a file, found {what}; put the migration there, or take it away"


def _is_control(character: str) -> bool:
    """Return whether it is a control character, or a lone surrogate: Python's stand-in for a byte that is not UTF-8."""
    return character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff"


def _shown(path: Path | str) -> str:
    """Return a path as it can be printed, with escapes for bytes of a name that are not UTF-8."""
    text = str(path)
    return text if text.isascii() else os.fsencode(text).decode("utf-8", "backslashreplace")


def parse(path: Path, content: bytes) -> Migration:
    """Parse one migration.

    Args:
        path: The file; only its name is used.
        content: Its bytes.

    Raises:
        FilesError: With every problem of the file.
    """
    problems: list[Problem] = []

    def add_problem(line: int, text: str) -> None:
        problems.append(Problem(_shown(path), line, text))

    revision = canonical(path.name)
    if _NAME.fullmatch(revision) is None:
        add_problem(
            0, "expected a name like 20250126120000_add_users.sql: 14 digits, '_' and a name without blanks or '+'"
        )
    elif not revision.isprintable() and any(map(_is_control, revision)):
        add_problem(0, "expected a name in UTF-8 without control characters; rename the file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = ", found UTF-16, as PowerShell's `>` writes it" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else ""
        add_problem(content.count(b"\n", 0, error.start) + 1, f"expected UTF-8 text{found}; save the file as UTF-8")
        raise FilesError(problems) from error
    if "\0" in text:
        add_problem(LineCounter(text)(text.index("\0")), "expected text, found a NUL byte")
    parse_sections = _parse_python if path.suffix == ".py" else parse_sql
    up, down, compatible_from, undo = parse_sections(text, add_problem)
    if compatible_from is not None and compatible_from > revision:
        add_problem(up.line, f"expected a compatible-from of this revision or an older one, got {compatible_from}")
    if problems:
        raise FilesError(problems)
    return Migration(revision, path, hashlib.sha256(content).hexdigest(), up, down, compatible_from, undo, content)


def _parse_python(text: str, add_problem: AddProblem) -> Sections:
    from migrations.files.python_sections import parse_python  # noqa: PLC0415 - most directories hold SQL only

    return parse_python(text, add_problem)
