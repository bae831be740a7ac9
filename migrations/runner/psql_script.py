"""Writes a plan as a script: what `up` would run, as psql takes it, with the rows that record it.

`up --dry-run | psql -v ON_ERROR_STOP=1` leaves the same behind as `up`. Python cannot be written as SQL; it is named.
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
    """Give the whole script; empty when there is nothing to do.

    Args:
        plan: What would be applied.
        book: Where and as what it would be recorded.
        relation: Quoted, qualified name of the ledger's table.
    """
    if not plan.steps:
        return ""
    ledger = [writer.sql("create_schema")] if writer.schema != "public" else []
    ledger.append(writer.sql("create"))
    parts = ["\n".join(("-- the ledger, where it is missing", *(f"{statement};" for statement in ledger)))]
    parts += ["\n".join(_migration(migration, writer, relation)) for migration in plan.steps]
    return "\n\n".join(parts)


def _migration(migration: Migration, writer: LedgerWriter, relation: str) -> Iterator[str]:
    up = migration.up
    if up.sql is None:
        yield f"-- {migration.path} is Python, which is no SQL: `ledgergate migrate up` runs it"
    elif up.transactional:
        yield f"-- {migration.path}"
        yield "begin;"
        yield _terminated(up.sql)
        yield _row("insert", migration, writer, relation, State.APPLIED)
        yield "commit;"
    else:
        yield f"-- {migration.path}, outside a transaction"
        yield _row("insert", migration, writer, relation, State.RUNNING)
        yield _terminated(up.sql)
        yield _row("finish", migration, writer, relation, State.APPLIED)


def _row(name: str, migration: Migration, writer: LedgerWriter, relation: str, state: State) -> str:
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
    """End the last statement, on a line of its own in case a comment comes last."""
    text = sql.strip()
    return text if text.endswith(";") and "--" not in text.rpartition("\n")[2] else f"{text}\n;"
