"""The plan of `up --dry-run` as a script for psql, including the rows of the ledger.

`up --dry-run | psql -v ON_ERROR_STOP=1` has the same result as `up`. A Python migration appears as a comment only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations.core.ledger import State
from migrations.sql.statements import bind, literal, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.core.migration import Migration
    from migrations.core.plan import UpPlan
    from migrations.runner.ledger_writer import LedgerWriter

_SQL = load("psql_script")


def render(plan: UpPlan, writer: LedgerWriter, relation: str) -> str:
    """Return the script; an empty string when there is nothing to do.

    Args:
        plan: The migrations to apply.
        writer: The ledger.
        relation: Quoted, qualified name of the ledger's table.
    """
    if not plan.steps:
        return ""
    ledger = [writer.statement("create_schema")] if writer.schema != "public" else []
    ledger.append(writer.statement("create"))
    parts = ["\n".join(("-- the ledger, where it is missing", *(f"{statement};" for statement in ledger)))]
    parts += ["\n".join(_migration_lines(migration, writer, relation)) for migration in plan.steps]
    return "\n\n".join(parts)


def _migration_lines(migration: Migration, writer: LedgerWriter, relation: str) -> Iterator[str]:
    up = migration.up
    if up.sql is None:
        yield f"-- {migration.path} is Python, which a script cannot contain: `ledgergate migrate up` runs it"
    elif up.transactional:
        yield f"-- {migration.path}"
        yield "begin;"
        yield _terminated(up.sql)
        yield _row_statement("insert", migration, writer, relation, State.APPLIED)
        yield "commit;"
    else:
        yield f"-- {migration.path}, outside a transaction"
        yield _row_statement("insert", migration, writer, relation, State.RUNNING)
        yield _terminated(up.sql)
        yield _row_statement("finish", migration, writer, relation, State.APPLIED)


def _row_statement(name: str, migration: Migration, writer: LedgerWriter, relation: str, state: State) -> str:
    return bind(
        _SQL[name],
        table=relation,
        revision=literal(migration.revision),
        checksum=literal(migration.checksum),
        batch=str(writer.batch),
        state=literal(state.value),
        applied_by=literal(writer.applied_by),
        compatible_from=literal(migration.compatible_from),
    )


def _terminated(sql: str) -> str:
    """Terminate the last statement, on a new line where the text may end in a comment."""
    text = sql.strip()
    return text if text.endswith(";") and "--" not in text.rpartition("\n")[2] else f"{text}\n;"
