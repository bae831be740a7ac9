"""Migrations to findings: walks the statements of every file in order, and asks each family of rules.

Pure: the same files give the same findings. Later files are judged by what earlier ones have made.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, pairwise
from typing import TYPE_CHECKING

from pglast import ast

from migrations.lint import advice, columns, constraints, drops, indexes, suppression, tables, transactions, writes
from migrations.lint.finding import Finding, found
from migrations.lint.parser import ScriptError, comments, statements
from migrations.lint.plpgsql import inside
from migrations.lint.rule import Hit, Level, Rule
from migrations.lint.schema import Schema, StatementContext
from migrations.lint.transactions import BEGINS, ENDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from migrations.core.migration import Migration, Problem, SectionBody
    from migrations.lint.parser import ParsedStatement

FILE = Rule(
    "file",
    Level.ERROR,
    "The file is not a migration that could be run; what is wrong is said, and no other rule was tried.",
    "docs/lint.md",
    down=True,
    details=(
        "Examples: a name that is no revision, two files with one revision, an up section without a "
        "statement. The same problems stop `ledgergate migrate up`, with the same exit code."
    ),
    safe=("-- as the message says",),
)
SYNTAX = Rule(
    "syntax",
    Level.ERROR,
    "PostgreSQL cannot parse the SQL; its own message says what is wrong.",
    "https://www.postgresql.org/docs/current/sql-syntax.html",
    down=True,
    details=(
        "The grammar is PostgreSQL 18's; psql's commands (`\\d`, `\\copy`) are not SQL. Line and column "
        "are where PostgreSQL stopped."
    ),
    safe=("-- as the message says",),
)
MISSING_DOWN = Rule(
    "missing-down",
    Level.WARNING,
    "Without a down section the migration cannot be undone by `ledgergate migrate down`.",
    "docs/lint.md",
    details=(
        "Comments do not count as a down section. A migration that cannot be undone declares it: `-- "
        "lint:allow missing-down because …`."
    ),
    safe=(
        "-- migrate:down",
        "DROP TABLE users;",
    ),
)
_FAMILIES = (indexes, constraints, columns, drops, tables, writes, transactions, advice)
RULES: tuple[Rule, ...] = (
    *(rule for family in _FAMILIES for rule in family.RULES),
    *(FILE, SYNTAX, MISSING_DOWN),
    *suppression.RULES,
)
NAMES = frozenset(rule.name for rule in RULES)


@dataclass(frozen=True, slots=True)
class File:
    """A migration and its whole text, comments before the first section included."""

    migration: Migration
    text: str


def lint(files: Sequence[File]) -> list[Finding]:
    """Give every finding, by file and line.

    Args:
        files: The migrations of a directory, in order.
    """
    catalog, transactions_begun = Schema(), count(1)
    before = [file.migration.revision for file in files]
    previous = {new: old for old, new in pairwise(before)}
    findings: list[Finding] = []
    for number, file in enumerate(files):
        walk = _FileLinter(
            file, number, previous.get(file.migration.revision, file.migration.revision), catalog, transactions_begun
        )
        findings += walk.findings()
    return sorted(findings)


def unusable(problems: Iterable[Problem]) -> list[Finding]:
    """Give the problems of files that cannot be used as findings."""
    return sorted(Finding(problem.path, problem.line, 0, FILE.name, FILE.level, problem.text) for problem in problems)


class _FileLinter:
    """The way through one file."""

    def __init__(self, file: File, number: int, previous: str, catalog: Schema, begun: Iterator[int]) -> None:
        self._file = file
        self._number = number
        self._previous = previous
        self._catalog = catalog
        self._begun = begun
        self._spans: list[tuple[int, int]] = []

    def findings(self) -> Iterator[Finding]:
        """Give what is found and not allowed."""
        migration, text = self._file.migration, self._file.text
        if migration.up.sql is None:  # Python: lint reads SQL only
            hits = [] if migration.down else [(_line_start(text, migration.up.line), _missing_down())]
            yield from (found(str(migration.path), text, *hit) for hit in hits)
            return
        hits = list(self._hits())
        allowed = []
        for entry in suppression.read(
            comments(text), _line_start(text, migration.up.line), len(text), self._spans, NAMES
        ):
            if isinstance(entry, suppression.Allow):
                allowed.append(entry)
            else:
                hits.append(entry)
        for allow in allowed:
            kept = [(position, hit) for position, hit in hits if not allow.covers(hit.rule.name, position)]
            if len(kept) == len(hits):
                hits.append(suppression.unused(allow))
            else:
                hits = kept
        yield from (found(str(migration.path), text, *hit) for hit in hits)

    def _hits(self) -> Iterator[tuple[int, Hit]]:
        migration = self._file.migration
        yield from self._section(migration.up, is_down=False)
        spans = len(self._spans)
        if migration.down is not None:
            yield from self._section(migration.down, is_down=True)
        if migration.down is None or (migration.down.sql and spans == len(self._spans)):
            yield _line_start(self._file.text, migration.up.line), _missing_down()

    def _section(self, script: SectionBody, *, is_down: bool) -> Iterator[tuple[int, Hit]]:
        sql = script.sql or ""
        offset = self._file.text.find(sql, _line_start(self._file.text, script.line))
        try:
            parsed = statements(sql)
        except ScriptError as error:
            self._spans.append((offset, offset + len(sql)))
            yield offset + error.position, Hit(SYNTAX, str(error), ())
            return
        self._spans += [(offset + statement.position, offset + statement.end) for statement in parsed]
        catalog = Schema() if is_down else self._catalog
        for outer, place in self._places(script, parsed):
            for statement in (outer, *inside(outer)[0]):
                for family in _FAMILIES:
                    for hit in family.check(statement, place, catalog):
                        if hit.rule.down or not is_down:
                            yield offset + statement.position, hit
                table = writes.locks(statement.node, place, catalog)
                if table is not None and place.transaction is not None:
                    catalog.locked = place.transaction, table
                catalog.record(statement.node, place)

    def _places(
        self, script: SectionBody, parsed: Sequence[ParsedStatement]
    ) -> Iterator[tuple[ParsedStatement, StatementContext]]:
        """Give each statement with the transaction that it runs in."""
        transaction = next(self._begun) if script.transactional else None
        rest = tuple(statement.node for statement in parsed)
        for statement in parsed:
            control = statement.node.kind if isinstance(statement.node, ast.TransactionStmt) else None
            yield (
                statement,
                StatementContext(
                    file=self._number,
                    transaction=transaction,
                    transactional=script.transactional,
                    contract=self._file.migration.compatible_from is not None,
                    previous=self._previous,
                    rest=rest,
                ),
            )
            if not script.transactional and control in BEGINS | ENDS:
                transaction = next(self._begun) if control in BEGINS else None


def _missing_down() -> Hit:
    safe = ("-- migrate:down", "-- and below it the statements that undo the ones above")
    return Hit(MISSING_DOWN, "the migration cannot be undone", safe)


def _line_start(text: str, line: int) -> int:
    """Offset at which a line begins."""
    position = 0
    for _ in range(line - 1):
        position = text.find("\n", position) + 1
    return position
