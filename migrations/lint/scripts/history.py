"""The scripts that the arguments of `ledgergate migrate lint` name, each on top of those that are applied before it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from migrations.core.migration import Problem
from migrations.lint.scripts import layouts
from migrations.lint.scripts.tree import STDIN, FileTree, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from migrations.lint.script import Script
    from migrations.lint.scripts.layouts import Layout

_FOLDER_FILES = frozenset({"migration.sql", "up.sql", "down.sql"})
"""Files of tools that give each migration a folder: Prisma, Drizzle and Diesel."""
_HINTS = {
    ".py": "Alembic and Django print SQL: `alembic upgrade --sql head`, `manage.py sqlmigrate`",
    ".rb": "Rails keeps SQL in db/structure.sql with `config.active_record.schema_format = :sql`",
    ".xml": "Liquibase prints SQL: `liquibase update-sql`",
    ".yaml": "Liquibase prints SQL: `liquibase update-sql`",
}


@dataclass(frozen=True, slots=True)
class LintHistory:
    """The scripts of one directory in their order, or why there are none.

    Attributes:
        root: The directory of the scripts, also where single files of it were named.
        scripts: What was read; empty where lint reads nothing there.
        layout: Name of the tool's layout; None where no file was read.
        problems: Why no file was read.
    """

    root: Path
    scripts: tuple[Script, ...]
    layout: str | None = None
    problems: tuple[Problem, ...] = ()

    def judging(self, paths: Iterable[str]) -> LintHistory:
        """Return the history in which only some files are judged: the others only make the schema."""
        wanted = set(paths)
        return replace(self, scripts=tuple(replace(s, is_judged=s.path in wanted) for s in self.scripts))


def read_histories(
    paths: Sequence[str], *, dialect: str, exclude: Sequence[str], stdin: bytes | None = None
) -> list[LintHistory]:
    """Read what the arguments name.

    Args:
        paths: Directories, files, and `-` for standard input. A file is judged on top of the files of its directory.
        dialect: Name of a layout, or `auto`.
        exclude: Patterns of files that are not read.
        stdin: What standard input holds, where a path is `-`.
    """
    histories = [
        read_stdin(stdin or b"", dialect=dialect) if path == "-" else read_directory(Path(path), dialect, exclude)
        for path in dict.fromkeys(paths)
        if path == "-" or not Path(path).is_file()
    ]
    by_root: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(paths):
        file = Path(path)
        if path != "-" and file.is_file():
            root = file.parent.parent if file.name in _FOLDER_FILES else file.parent
            by_root.setdefault(root, []).append(file)
    for root, files in by_root.items():
        histories += _read_files(root, files, dialect, exclude)
    return histories


def read_stdin(content: bytes, *, dialect: str) -> LintHistory:
    """Return standard input as one script.

    Empty input is a problem: the program that should have written it may have failed.
    """
    if not content.strip():
        return LintHistory(Path(), (), problems=(Problem(STDIN, 0, "expected SQL on standard input, found nothing"),))
    tree = FileTree(Path(), (STDIN,), {STDIN: content})
    return _read(tree, dialect, STDIN)


def read_directory(root: Path, dialect: str, exclude: Sequence[str]) -> LintHistory:
    """Return the scripts of a directory."""
    if not root.is_dir():
        text = "expected a directory of migrations, found none; name it: ledgergate migrate lint DIR"
        return LintHistory(root, (), problems=(Problem(str(root), 0, text),))
    try:
        tree = walk(root)
    except OSError as error:
        text = f"expected a directory that can be read: {error.strerror}"
        return LintHistory(root, (), problems=(Problem(str(error.filename or root), 0, text),))
    return _read(tree.without(exclude), dialect, str(root))


def _read_files(root: Path, files: Sequence[Path], dialect: str, exclude: Sequence[str]) -> list[LintHistory]:
    """Return the history of a directory in which only the named files are judged.

    A named file that is not in that history, such as one of another tool, gets a history of its own.
    """
    whole = read_directory(root, dialect, exclude)
    names = {str(root / file.relative_to(root)) for file in files}
    histories = [whole.judging(names)] if names & {script.path for script in whole.scripts} else []
    found = {script.path for history in histories for script in history.scripts}
    for file in files:
        if str(file) not in found:
            tree = FileTree(file.parent, (file.name,))
            histories.append(_read(tree, dialect, str(file)))
    return histories


def _read(tree: FileTree, dialect: str, shown: str) -> LintHistory:
    layout: Layout | None = layouts.detect(tree) if dialect == layouts.AUTO else layouts.find_layout(dialect)
    scripts = tuple(layout.read(tree)) if layout is not None else ()
    if layout is not None and scripts:
        return LintHistory(tree.root, scripts, layout.name)
    return LintHistory(tree.root, (), problems=(Problem(shown, 0, _describe_nothing(tree, dialect)),))


def _describe_nothing(tree: FileTree, dialect: str) -> str:
    """Describe a directory of which lint reads no file."""
    suffixes = Counter(PurePath(file).suffix for file in tree.files)
    there = ", ".join(f"{number} of {suffix or 'no suffix'}" for suffix, number in suffixes.most_common(3))
    tool = "" if dialect == layouts.AUTO else f" as {dialect} keeps them"
    hints = [_HINTS[suffix] for suffix, _ in suffixes.most_common(3) if suffix in _HINTS]
    hint = f"; {hints[0]}, and `ledgergate migrate lint -` reads it" if hints else ""
    return f"expected migrations in SQL{tool}, found no file that lint reads ({there or 'it is empty'}){hint}"
