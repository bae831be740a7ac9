"""Files of `ledgergate migrate` and of dbmate: ledgergate uses dbmate's comments for sections."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from migrations.core.migration import FilesError, Undo
from migrations.files.native import load_directory, parse
from migrations.lint.script import Script, ScriptSection, TransactionMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from migrations.core.migration import Migration, Problem, SectionBody
    from migrations.lint.scripts.tree import FileTree

MARKER = re.compile(r"^--[ \t]*migrate:(up|down)\b[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)


def read_native(tree: FileTree) -> list[Script]:
    """Return the migrations of a directory as `ledgergate migrate` loads them, with the problems of each file."""
    chosen = set(tree.files)
    try:
        migrations: Iterable[Migration] = load_directory(tree.root) if tree.root.is_dir() else ()
        problems: tuple[Problem, ...] = ()
    except FilesError as error:
        migrations, problems = _loadable(tree), error.problems
    scripts = [
        native_script(migration, migration.content.decode("utf-8-sig"))
        for migration in migrations
        if migration.path.name in chosen
    ]
    shown = {tree.shown(file): file for file in chosen}
    for path in sorted({problem.path for problem in problems}):
        if path in shown or path == str(tree.root):
            own = tuple(problem for problem in problems if problem.path == path)
            scripts.append(Script(path, path, tree.text(shown[path]) if path in shown else "", problems=own))
    return scripts


def _loadable(tree: FileTree) -> Iterator[Migration]:
    for file in (*tree.top(".sql"), *tree.top(".py")):
        try:
            yield parse(tree.root / file, (tree.root / file).read_bytes())
        except (FilesError, OSError):
            continue  # the problem is reported with those of the directory


def native_script(migration: Migration, text: str) -> Script:
    """Return a migration as lint reads it.

    Args:
        migration: The migration.
        text: The whole text of its file.
    """
    sections = [
        _section(body, text, is_down=is_down)
        for body, is_down in ((migration.up, False), (migration.down, True))
        if body is not None and body.sql is not None
    ]
    head = line_start(text, migration.up.line)
    lacks_down = migration.down is None and migration.undo is not Undo.NONE
    return Script(
        str(migration.path),
        migration.revision,
        text,
        tuple(sections),
        head=head,
        compatible_from=migration.compatible_from,
        lacks_down=head if lacks_down else None,
        native=True,
    )


def _section(body: SectionBody, text: str, *, is_down: bool) -> ScriptSection:
    sql = body.sql or ""
    offset = text.find(sql, line_start(text, body.line))
    mode = TransactionMode.OWN if body.transactional else TransactionMode.NONE
    return ScriptSection(sql, offset, mode, is_down)


def read_dbmate(tree: FileTree) -> list[Script]:
    """Return dbmate's migrations.

    Source: https://github.com/amacneil/dbmate#creating-migrations
    """
    return [_dbmate_script(tree, file) for file in tree.top() if file[0].isdigit() or MARKER.search(tree.text(file))]


def _dbmate_script(tree: FileTree, file: str) -> Script:
    text, problems = tree.read(file)
    markers = list(MARKER.finditer(text))
    sections = []
    for number, marker in enumerate(markers):
        end = markers[number + 1].start() if number + 1 < len(markers) else len(text)
        mode = TransactionMode.NONE if "transaction:false" in marker[2].split() else TransactionMode.OWN
        sections.append(ScriptSection(text[marker.end() : end], marker.end(), mode, marker[1] == "down"))
    has_down = any(section.is_down for section in sections)
    head = markers[0].start() if markers else 0
    return Script(
        tree.shown(file),
        file.removesuffix(".sql"),
        text,
        tuple(sections),
        head=head,
        lacks_down=None if has_down or not sections else head,
        problems=problems,
    )


def line_start(text: str, line: int) -> int:
    """Return the offset at which a line begins."""
    position = 0
    for _ in range(line - 1):
        position = text.find("\n", position) + 1
    return position
