"""What an older PostgreSQL cannot do, where `--pg-version` names one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import relation_name
from migrations.lint.rule import Level, Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.parser import ParsedStatement

NEWER_VERSION = Rule(
    "newer-version",
    Level.ERROR,
    "The PostgreSQL that `--pg-version` names cannot do this: the migration fails.",
    "https://www.postgresql.org/docs/release/",
    down=True,
    details=(
        "Known are MERGE and NULLS NOT DISTINCT (15), CREATE OR REPLACE TRIGGER and DETACH PARTITION CONCURRENTLY "
        "(14), REINDEX CONCURRENTLY and generated columns (12), VIRTUAL columns, NOT ENFORCED, NOT NULL … NOT VALID "
        "and a foreign key NOT VALID on a partitioned table (18)."
    ),
    safe=("-- wait with it until every server is of that version",),
)
RULES = (NEWER_VERSION,)

_AT = enums.AlterTableType
_KIND = enums.ConstrType


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield what the oldest PostgreSQL that runs the statement cannot do."""
    if context.version is None:
        return
    for since, what in _features(statement.node, context):
        if context.is_before(since):
            text = f"PostgreSQL {context.version} has no {what}, which exists from {since} on"
            yield Violation(NEWER_VERSION, text, ("-- wait with it until every server is of that version",))


def _features(node: Any, context: StatementContext) -> Iterator[tuple[int, str]]:  # noqa: C901 - a table of statements, as patterns
    match node:
        case ast.MergeStmt():
            yield 15, "MERGE"
        case ast.CreateTrigStmt(replace=True):
            yield 14, "CREATE OR REPLACE TRIGGER"
        case ast.ReindexStmt() if any(option.defname == "concurrently" for option in node.params or ()):
            yield 12, "REINDEX CONCURRENTLY"
        case ast.IndexStmt(nulls_not_distinct=True):
            yield 15, "NULLS NOT DISTINCT"
        case ast.CreateStmt():
            for element in node.tableElts or ():
                yield from _of_element(element)
        case ast.AlterTableStmt():
            table = context.schema.table(relation_name(node.relation))
            partitioned = table is not None and table.partition_key is not None
            for command in node.cmds or ():
                yield from _of_element(command.def_)
                if isinstance(command.def_, ast.PartitionCmd) and command.def_.concurrent:
                    yield 14, "DETACH PARTITION CONCURRENTLY"
                elif partitioned and command.subtype == _AT.AT_AddConstraint and _is_unvalidated_key(command.def_):
                    yield 18, "foreign key NOT VALID on a partitioned table"


def _is_unvalidated_key(constraint: Any) -> bool:
    return constraint.contype == _KIND.CONSTR_FOREIGN and bool(constraint.skip_validation)


def _of_element(element: Any) -> Iterator[tuple[int, str]]:
    for constraint in element.constraints or () if isinstance(element, ast.ColumnDef) else (element,):
        if not isinstance(constraint, ast.Constraint):
            continue
        if constraint.nulls_not_distinct:
            yield 15, "NULLS NOT DISTINCT"
        if constraint.contype == _KIND.CONSTR_GENERATED:
            yield (18, "VIRTUAL column") if constraint.generated_kind == "v" else (12, "generated column")
        elif constraint.contype == _KIND.CONSTR_NOTNULL and constraint.skip_validation:
            yield 18, "NOT NULL … NOT VALID"
        elif constraint.contype in {_KIND.CONSTR_CHECK, _KIND.CONSTR_FOREIGN} and not constraint.is_enforced:
            yield 18, "NOT ENFORCED"
