"""Migrations to findings: judge the statements of every file in order by each family of rules.

Pure: the same files give the same findings. A file is judged on top of the schema that the files before it make.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from pglast import ast

from migrations.core.contract import needed
from migrations.lint import suppression
from migrations.lint.context import StatementContext
from migrations.lint.finding import Finding, Reason, fingerprint, locate
from migrations.lint.locks import locks
from migrations.lint.parser import ScriptError, parse, parse_comments
from migrations.lint.plpgsql import parse_do_block
from migrations.lint.rule import OWN_MIGRATION, Level, Rule, Violation
from migrations.lint.rules import (
    advice,
    columns,
    constraints,
    contracts,
    drops,
    indexes,
    partitions,
    short_locks,
    tables,
    tightened,
    transactions,
    type_changes,
    versions,
    writes,
)
from migrations.lint.rules.short_locks import short_lock
from migrations.lint.rules.transactions import BEGINS, ENDS, is_neutral, refused_in_transaction
from migrations.lint.schema import Schema
from migrations.lint.script import TransactionMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from migrations.core.migration import Problem
    from migrations.lint.parser import ParsedStatement
    from migrations.lint.script import Script, ScriptSection

    _Located = tuple[tuple[int, int], Violation]  # the statement's begin and end in the text

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
TEMPLATE = Rule(
    "template",
    Level.ADVICE,
    "The SQL has a template's variables, and lint cannot parse it with names in their place.",
    "docs/lint.md",
    down=True,
    details=(
        "Lint puts a name in the place of `${name}`, `{{ name }}` and `<%= name %>`, and nothing in that of `{% … %}`. "
        "Where the rest is no SQL, nothing of the section is checked."
    ),
    safe=("-- write the SQL that varies so that it can be parsed with a name in the place of the variable",),
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
_FAMILIES = (
    indexes,
    constraints,
    type_changes,
    columns,
    drops,
    tightened,
    contracts,
    tables,
    partitions,
    writes,
    transactions,
    versions,
    advice,
)
_FAMILIES_OF_DOWN = tuple(family for family in _FAMILIES if any(rule.down for rule in family.RULES))
_FAMILIES_OF_SNAPSHOTS = tuple(family for family in _FAMILIES if family is not transactions)
RULES: tuple[Rule, ...] = (
    *(rule for family in (*_FAMILIES[:-1], short_locks, advice) for rule in family.RULES),
    *(FILE, SYNTAX, TEMPLATE, MISSING_DOWN),
    *suppression.RULES,
)
NAMES = frozenset(rule.name for rule in RULES)


def lint(scripts: Iterable[Script], *, version: int | None = None) -> list[Finding]:
    """Return every finding in the scripts that are judged, by file and line.

    contract-not-last is reported as if the scripts were one change. The caller drops it where they are a whole history.

    Args:
        scripts: The files of a history, in the order in which they are applied.
        version: Major version of the oldest PostgreSQL that runs them; None for any that is supported.
    """
    schema, transaction_numbers = Schema(), count(1)
    previous = None
    findings: list[Finding] = []
    history = list(scripts)
    sound = [script for script in history if not script.problems]
    deferred = {script.path for script in sound[len(needed(sound)) :]}
    for index, script in enumerate(history):
        place = _Place(index, previous or script.revision, version)
        if script.compatible_from is not None:
            follower = next((other.revision for other in history[index + 1 :] if _expands(other)), None)
            place = place._replace(deferred=script.path in deferred, next_expand=follower)
        findings += _ScriptLinter(script, place, schema, transaction_numbers).findings()
        previous = script.revision
    return sorted(findings)


def _expands(script: Script) -> bool:
    return script.compatible_from is None and not script.problems


def problem_findings(problems: Iterable[Problem]) -> list[Finding]:
    """Return the problems that keep files from being loaded as findings."""
    return sorted(
        Finding(
            problem.path, problem.line, 0, (Reason(FILE.name, FILE.level, problem.text),), fingerprint(problem.text)
        )
        for problem in problems
    )


class _Place(NamedTuple):
    """Where a script stands in its history.

    Attributes:
        file: Its index.
        previous_revision: The revision before it; this one's revision where it is the first.
        version: Major version of PostgreSQL; None for any.
        deferred: Whether images neither need it nor wait for it: it is one of the contract migrations at the end.
        next_expand: For a contract migration, the revision of the next expand migration; None where none follows.
    """

    file: int
    previous_revision: str
    version: int | None
    deferred: bool = False
    next_expand: str | None = None


class _ScriptLinter:
    """Judges the statements of one script, and applies them to the schema unless they are in a down section."""

    def __init__(self, script: Script, place: _Place, schema: Schema, transaction_numbers: Iterator[int]) -> None:
        self._script = script
        self._place = place
        self._schema = schema
        self._transaction_numbers = transaction_numbers
        self._spans: list[tuple[int, int]] = []  # begin and end of each statement in the text

    def findings(self) -> Iterator[Finding]:
        """Yield a finding for each statement with violations that no comment allows."""
        script = self._script
        if not script.is_judged:
            for section in script.sections:
                if not section.is_down:
                    self._apply(section)
            return
        yield from problem_findings(script.problems)
        violations = self._without_allowed(list(self._violations()))
        by_span: dict[tuple[int, int], list[Violation]] = {}
        for span, violation in violations:
            by_span.setdefault(span, []).append(self._in_words_of_the_tool(violation))
        for span, found in by_span.items():
            yield locate(script.path, script.text, span, found)

    def _in_words_of_the_tool(self, violation: Violation) -> Violation:
        if self._script.own_migration == OWN_MIGRATION or OWN_MIGRATION not in violation.safe:
            return violation
        own = self._script.own_migration
        return replace(violation, safe=tuple(own if line == OWN_MIGRATION else line for line in violation.safe))

    def _without_allowed(self, violations: list[_Located]) -> list[_Located]:
        """Drop the violations that a comment allows, and add those of the comments themselves."""
        script = self._script
        if "lint:" not in script.text:
            return violations
        comments = parse_comments(script.text)
        allows = []
        for entry in suppression.parse_allows(comments, script.head, len(script.text), self._spans, NAMES):
            if isinstance(entry, suppression.Allow):
                allows.append(entry)
            else:
                violations.append(((entry[0], entry[0]), entry[1]))
        for allow in allows:
            kept = [entry for entry in violations if not allow.covers(entry[1].rule.name, entry[0][0])]
            if len(kept) == len(violations):
                position, violation = suppression.unused_allow(allow)
                violations.append(((position, position), violation))
            else:
                violations = kept
        return violations

    def _violations(self) -> Iterator[_Located]:
        script = self._script
        has_down = False
        for section in script.sections:
            spans = len(self._spans)
            yield from self._section(section)
            has_down = has_down or (section.is_down and spans < len(self._spans))
        if script.compatible_from is not None and not self._place.deferred:
            yield self._head_span(), contracts.contract_not_last(script.compatible_from, self._place.next_expand)
        # A down section that has only comments adds no span, and so counts as missing.
        down = next((section for section in script.sections if section.is_down), None)
        if script.lacks_down is not None or (down is not None and not has_down):
            offset = script.head if script.lacks_down is None else script.lacks_down
            yield (offset, offset), _missing_down()

    def _head_span(self) -> tuple[int, int]:
        """Return the span of the first statement; the end of the head where there is none, as in a Python file."""
        return min(self._spans, default=(self._script.head, self._script.head))

    def _apply(self, section: ScriptSection) -> None:
        """Change the schema as a section does, without judging it."""
        try:
            parsed = parse(section.sql, strict=self._script.native)
        except ScriptError:
            return
        for outer, context in self._contexts(section, parsed, self._schema):
            for statement in (outer, *parse_do_block(outer).statements):
                self._schema.apply(statement.node, context.file, context.transaction)

    def _section(self, section: ScriptSection) -> Iterator[_Located]:
        """Yield the violations of a section with their offsets in the file."""
        offset = section.offset
        try:
            parsed = parse(section.sql, strict=self._script.native)
        except ScriptError as error:
            self._spans.append((offset, offset + len(section.sql)))
            at = offset + error.position
            rule = TEMPLATE if error.is_template else SYNTAX
            yield (at, at), Violation(rule, str(error), ())
            return
        self._spans += [(offset + statement.position, offset + statement.end) for statement in parsed]
        # A down section starts from an empty schema of its own: it has not run when later files do, so what it drops
        # must not be missing from theirs.
        schema = Schema() if section.is_down else self._schema
        for outer, context in self._contexts(section, parsed, schema):
            for statement in (outer, *parse_do_block(outer).statements):
                span = offset + statement.position, offset + statement.end
                # Judge first, then note the locks and change the schema: a rule asks what was there before the
                # statement, and which locks earlier statements took.
                for violation in _judge(statement, context, self._families(section)):
                    if violation.rule.down or not section.is_down:
                        yield span, violation
                if context.transaction is not None:
                    for table, _ in locks(statement.node, schema):
                        if not context.is_new(table):
                            schema.lock(table, context.transaction)
                schema.apply(statement.node, context.file, context.transaction)

    def _families(self, section: ScriptSection) -> Sequence[Any]:
        """Return the families of rules to judge a section by."""
        if section.is_down:
            return _FAMILIES_OF_DOWN
        return _FAMILIES_OF_SNAPSHOTS if self._script.snapshot else _FAMILIES

    def _contexts(
        self, section: ScriptSection, parsed: Sequence[ParsedStatement], schema: Schema
    ) -> Iterator[tuple[ParsedStatement, StatementContext]]:
        """Yield each statement with its context; BEGIN and COMMIT change the transaction of those after them."""
        nodes = tuple(statement.node for statement in parsed)
        mode = resolve_mode(section.mode, nodes)
        transaction = None if mode is TransactionMode.NONE else next(self._transaction_numbers)
        for statement in parsed:
            yield (
                statement,
                StatementContext(
                    schema=schema,
                    file=self._place.file,
                    transaction=transaction,
                    transactional=mode is TransactionMode.OWN,
                    contract=self._script.compatible_from is not None,
                    deferred=self._place.deferred,
                    previous_revision=self._place.previous_revision,
                    section_nodes=nodes,
                    version=self._place.version,
                    native=self._script.native,
                ),
            )
            control = statement.node.kind if isinstance(statement.node, ast.TransactionStmt) else None
            if control is None or mode is TransactionMode.OWN:
                continue
            # In a QUERY, BEGIN takes the statements before it into its transaction, so the number stays. Source:
            # https://www.postgresql.org/docs/current/protocol-flow.html, "Multiple Statements in a Simple Query"
            if control in BEGINS and mode is TransactionMode.NONE:
                transaction = next(self._transaction_numbers)
            elif control in ENDS:
                transaction = None if mode is TransactionMode.NONE else next(self._transaction_numbers)


def _judge(statement: ParsedStatement, context: StatementContext, families: Sequence[Any]) -> Iterator[Violation]:
    found = [violation for family in families for violation in family.check(statement, context)]
    yield from found
    # short-lock comes last, and only where no other rule reports a lock. It holds neither in a down section nor in a
    # dump of the schema, which are judged by fewer families.
    if (
        families is _FAMILIES
        and not any(violation.mode for violation in found)
        and (short := short_lock(statement, context))
    ):
        yield short


def resolve_mode(mode: TransactionMode, nodes: Sequence[Any]) -> TransactionMode:
    """Return how the statements run: in a transaction of the tool (OWN), in one of the query (QUERY), or in NONE."""
    match mode:
        case TransactionMode.QUERY if len(nodes) <= 1:
            return TransactionMode.NONE
        case TransactionMode.DETECTED:
            refusing = [node for node in nodes if refused_in_transaction(node)]
            others = [node for node in nodes if not (refused_in_transaction(node) or is_neutral(node))]
            return TransactionMode.NONE if refusing and not others else TransactionMode.OWN
        case TransactionMode.UNKNOWN:
            explicit = any(isinstance(node, ast.TransactionStmt) and node.kind in BEGINS | ENDS for node in nodes)
            explicit = explicit or any(refused_in_transaction(node) for node in nodes)
            return TransactionMode.NONE if explicit else TransactionMode.OWN
        case _:
            return mode


def _missing_down() -> Violation:
    safe = ("-- migrate:down", "-- and below it the statements that undo the ones above")
    return Violation(MISSING_DOWN, "the migration cannot be undone", safe)
