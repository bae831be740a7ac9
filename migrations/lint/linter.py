"""Migrations to findings: judge the statements of every file in order by each family of rules.

Pure: the same files give the same findings. A file is judged on top of the schema that the files before it make.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, pairwise
from typing import TYPE_CHECKING

from pglast import ast

from migrations.core.migration import Undo
from migrations.lint import advice, columns, constraints, drops, indexes, suppression, tables, transactions, writes
from migrations.lint.context import StatementContext
from migrations.lint.finding import Finding, locate
from migrations.lint.parser import ScriptError, parse_comments, parse_statements
from migrations.lint.plpgsql import parse_do_block
from migrations.lint.rule import Level, Rule, Violation
from migrations.lint.schema import Schema
from migrations.lint.transactions import BEGINS, ENDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from migrations.core.migration import Migration, Problem, SectionBody
    from migrations.lint.parser import ParsedStatement

FILE = Rule(
    "file",
    Level.ERROR,
    "The file is not a migration that can be run; the message says why, and no other rule is checked.",
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
    "PostgreSQL cannot parse the SQL; the message is PostgreSQL's own.",
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
        "migrate:down none`, in Python `down = None`; or `-- lint:allow missing-down because …`."
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
    """A migration and the whole text of its file, including the comments above the first section."""

    migration: Migration
    text: str


def lint(files: Sequence[File]) -> list[Finding]:
    """Return every finding, by file and line.

    Args:
        files: The migrations of a directory, in order.
    """
    schema, transaction_numbers = Schema(), count(1)
    revisions = [file.migration.revision for file in files]
    previous = {new: old for old, new in pairwise(revisions)}
    findings: list[Finding] = []
    for index, file in enumerate(files):
        revision = file.migration.revision
        linter = _FileLinter(file, index, previous.get(revision, revision), schema, transaction_numbers)
        findings += linter.findings()
    return sorted(findings)


def problem_findings(problems: Iterable[Problem]) -> list[Finding]:
    """Return the problems that keep files from being loaded as findings."""
    return sorted(Finding(problem.path, problem.line, 0, FILE.name, FILE.level, problem.text) for problem in problems)


class _FileLinter:
    """Judges the statements of one file and applies those of its up section to the schema."""

    def __init__(
        self, file: File, index: int, previous_revision: str, schema: Schema, transaction_numbers: Iterator[int]
    ) -> None:
        self._file = file
        self._index = index
        self._previous_revision = previous_revision
        self._schema = schema
        self._transaction_numbers = transaction_numbers
        self._spans: list[tuple[int, int]] = []  # begin and end of each statement in the text

    def findings(self) -> Iterator[Finding]:
        """Yield the violations that no comment allows."""
        migration, text = self._file.migration, self._file.text
        if migration.up.sql is None:  # Python: lint reads SQL only
            violations = [] if _may_lack_down(migration) else [(_line_start(text, migration.up.line), _missing_down())]
        else:
            violations = self._without_allowed(list(self._violations()))
        yield from (locate(str(migration.path), text, *violation) for violation in violations)

    def _without_allowed(self, violations: list[tuple[int, Violation]]) -> list[tuple[int, Violation]]:
        """Drop the violations that a comment allows, and add those of the comments themselves."""
        text = self._file.text
        head = _line_start(text, self._file.migration.up.line)
        allows = []
        for entry in suppression.parse_allows(parse_comments(text), head, len(text), self._spans, NAMES):
            if isinstance(entry, suppression.Allow):
                allows.append(entry)
            else:
                violations.append(entry)
        for allow in allows:
            kept = [entry for entry in violations if not allow.covers(entry[1].rule.name, entry[0])]
            if len(kept) == len(violations):
                violations.append(suppression.unused_allow(allow))
            else:
                violations = kept
        return violations

    def _violations(self) -> Iterator[tuple[int, Violation]]:
        migration = self._file.migration
        yield from self._section(migration.up, is_down=False)
        spans = len(self._spans)
        if migration.down is not None:
            yield from self._section(migration.down, is_down=True)
        # A down section of nothing but comments has added no span.
        if not _may_lack_down(migration) or (migration.down and spans == len(self._spans)):
            yield _line_start(self._file.text, migration.up.line), _missing_down()

    def _section(self, section: SectionBody, *, is_down: bool) -> Iterator[tuple[int, Violation]]:
        """Yield the violations of a section with their offsets in the file."""
        sql = section.sql or ""
        offset = self._file.text.find(sql, _line_start(self._file.text, section.line))
        try:
            parsed = parse_statements(sql)
        except ScriptError as error:
            self._spans.append((offset, offset + len(sql)))
            yield offset + error.position, Violation(SYNTAX, str(error), ())
            return
        self._spans += [(offset + statement.position, offset + statement.end) for statement in parsed]
        # A down section has not run when later files do: what it drops must not be missing from their schema.
        schema = Schema() if is_down else self._schema
        for outer, context in self._contexts(section, parsed, schema):
            for statement in (outer, *parse_do_block(outer).statements):
                for family in _FAMILIES:
                    for violation in family.check(statement, context):
                        if violation.rule.down or not is_down:
                            yield offset + statement.position, violation
                table = writes.locked_table(statement.node, context)
                if table is not None and context.transaction is not None:
                    schema.locked_table = context.transaction, table
                schema.apply(statement.node, context.file, context.transaction)

    def _contexts(
        self, section: SectionBody, parsed: Sequence[ParsedStatement], schema: Schema
    ) -> Iterator[tuple[ParsedStatement, StatementContext]]:
        """Yield each statement with its context; BEGIN and COMMIT change the transaction of those after them."""
        transaction = next(self._transaction_numbers) if section.transactional else None
        section_nodes = tuple(statement.node for statement in parsed)
        for statement in parsed:
            yield (
                statement,
                StatementContext(
                    schema=schema,
                    file=self._index,
                    transaction=transaction,
                    transactional=section.transactional,
                    contract=self._file.migration.compatible_from is not None,
                    previous_revision=self._previous_revision,
                    section_nodes=section_nodes,
                ),
            )
            control = statement.node.kind if isinstance(statement.node, ast.TransactionStmt) else None
            if not section.transactional and control in BEGINS | ENDS:
                transaction = next(self._transaction_numbers) if control in BEGINS else None


def _may_lack_down(migration: Migration) -> bool:
    return migration.down is not None or migration.undo is Undo.NONE


def _missing_down() -> Violation:
    safe = ("-- migrate:down", "-- and below it the statements that undo the ones above")
    return Violation(MISSING_DOWN, "the migration cannot be undone", safe)


def _line_start(text: str, line: int) -> int:
    """Return the offset at which a line begins."""
    position = 0
    for _ in range(line - 1):
        position = text.find("\n", position) + 1
    return position
