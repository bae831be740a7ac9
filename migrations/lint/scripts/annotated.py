"""Tools that keep both directions in one file, separated by comments: goose, sql-migrate, node-pg-migrate."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from migrations.lint.script import Script, ScriptSection, TransactionMode

if TYPE_CHECKING:
    from migrations.lint.scripts.tree import FileTree

GOOSE = re.compile(r"^[ \t]*--[ \t]*\+goose[ \t]+(?P<word>.*?)[ \t\r]*$", re.MULTILINE | re.IGNORECASE)
SQL_MIGRATE = re.compile(r"^--[ \t]*\+migrate[ \t]+(?P<word>.*?)[ \t\r]*$", re.MULTILINE | re.IGNORECASE)
NODE_PG_MIGRATE = re.compile(r"^\s*--[\s-]*(?P<word>up|down)\s+migration[^\n]*$", re.MULTILINE | re.IGNORECASE)


def read_goose(tree: FileTree) -> list[Script]:
    """Return goose's migrations in SQL.

    Source: https://pressly.github.io/goose/documentation/annotations/
    """
    own = "-- in a migration of its own: -- +goose NO TRANSACTION"
    return [_annotated(tree, file, GOOSE, own) for file in _files(tree, GOOSE)]


def read_sql_migrate(tree: FileTree) -> list[Script]:
    """Return sql-migrate's migrations.

    Source: https://github.com/rubenv/sql-migrate#writing-migrations
    """
    own = "-- in a migration of its own: -- +migrate Up notransaction"
    return [_annotated(tree, file, SQL_MIGRATE, own) for file in _files(tree, SQL_MIGRATE)]


def read_node_pg_migrate(tree: FileTree) -> list[Script]:
    """Return node-pg-migrate's migrations in SQL. The whole of a file without an up or down comment is its up section.

    Source: https://salsita.github.io/node-pg-migrate/cli, "SQL migrations"
    """
    own = "-- in a migration in JavaScript, with pgm.noTransaction():"
    return [_annotated(tree, file, NODE_PG_MIGRATE, own) for file in _files(tree, NODE_PG_MIGRATE)]


def _files(tree: FileTree, annotation: re.Pattern[str]) -> list[str]:
    """Return the files, or standard input, that contain an annotation or have a name that begins with a digit."""
    candidates = tree.top() or [file for file in tree.files if file.startswith("<")]
    return [file for file in candidates if file[0].isdigit() or annotation.search(tree.text(file))]


def _annotated(tree: FileTree, file: str, annotation: re.Pattern[str], own_migration: str) -> Script:
    text, problems = tree.read(file)
    words = [(match, match["word"].lower()) for match in annotation.finditer(text)]
    no_transaction = any(word == "no transaction" or word.endswith("notransaction") for _, word in words)
    mode = TransactionMode.NONE if no_transaction else TransactionMode.OWN
    borders = [(match, word.split()[0]) for match, word in words if word.split()[:1] in (["up"], ["down"])]
    sections = []
    for number, (match, word) in enumerate(borders):
        end = borders[number + 1][0].start() if number + 1 < len(borders) else len(text)
        sections.append(ScriptSection(text[match.end() : end], match.end(), mode, word == "down"))
    if not borders and text:
        sections = [ScriptSection(text, 0, mode)]
    return Script(
        tree.shown(file),
        file.removesuffix(".sql"),
        text,
        tuple(sections),
        head=borders[0][0].start() if borders else 0,
        own_migration=own_migration,
        problems=problems,
    )
