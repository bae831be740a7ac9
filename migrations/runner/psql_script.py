"""The plan of `up --dry-run` as a script for psql, including the rows of the ledger.

`up --dry-run | psql` has the same result as `up`: the same objects of the same owners, and the same ledger. It stops
where it comes to a Python migration, which a script cannot contain. Source of what psql reads in another way than the
server: https://www.postgresql.org/docs/current/app-psql.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from migrations.files.lexer import find_code
from migrations.files.psql_syntax import escape_for_psql
from migrations.runner import non_transactional
from migrations.runner.ledger_writer import RESET_ROLE
from migrations.runner.section import Section
from migrations.runner.splitter import TransactionUse
from migrations.runner.transactional import find_transaction_end
from migrations.sql.statements import bind, literal, load, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.core.migration import Migration
    from migrations.core.plan import UpPlan
    from migrations.runner.ledger_writer import LedgerWriter
    from migrations.runner.splitter import Statement

_SQL = load("psql_script")
_HEAD = r"""\set ON_ERROR_STOP on
\set ON_ERROR_ROLLBACK off
\set AUTOCOMMIT on
\encoding UTF8"""
"""What the script relies on, whatever a .psqlrc or the locale says."""
_NEW_SESSION = "discard all;\n\\encoding UTF8"
"""Makes the session like new, as `up` does after each migration. It fails in a transaction, so that one which a
migration has left open is rolled back, as `up` does. It forgets the encoding."""
_DECIDES_HOW_TO_READ = re.compile(
    r"\b(?:standard_conforming_strings|backslash_quote|client_encoding|set\s+(?:session\s+|local\s+)?names"
    r"|reset\s+all)\b",
    re.IGNORECASE,
)
"""Settings for the statements that follow in other messages. `up` sends a section in one, psql each statement."""
_NEEDS_TRANSACTION = re.compile(r"(?:lock|declare)\b", re.IGNORECASE)
_BEGINS = re.compile(r"(?:begin|start)\b", re.IGNORECASE)


def render(plan: UpPlan, writer: LedgerWriter, preparation: Sequence[str] = ()) -> str:
    """Return the script; an empty string when there is nothing to do.

    Args:
        plan: The migrations to apply.
        writer: The ledger.
        preparation: Names of the statements that create or extend the ledger's table, see `find_preparation`.

    Raises:
        MigrationFailed: `up` would refuse a migration before any of it has run.
    """
    if not plan.steps:
        return ""
    parts = [_HEAD]
    if preparation:
        parts.append("\n".join(("-- the ledger", *(f"{writer.statement(name)};" for name in preparation))))
    parts += ["\n".join(_migration_lines(migration, writer)) for migration in plan.steps]
    return "\n\n".join(parts)


def _migration_lines(migration: Migration, writer: LedgerWriter) -> Iterator[str]:
    section = Section(migration, migration.up, "up")
    path = " ".join(str(migration.path).split("\n"))
    if migration.up.sql is None:
        what = f"{path} is Python, which a script cannot contain"
        remedy = f"run `ledgergate migrate up --to {migration.revision}`, then make a script of what is left"
        yield f"-- {what}"
        body = f"begin raise exception using message = {literal(f'{what}: {remedy}')}; end"
        yield f"do {literal(body)};"
        return
    if migration.up.transactional:
        if (found := find_transaction_end(migration.up.sql)) is not None:
            raise section.transaction_end_error(*found)
        yield f"-- {path}"
        yield _transaction(migration.up.sql, _row_statement("record", migration, writer))
    else:
        statements = non_transactional.split_section(section)
        yield f"-- {path}, outside a transaction"
        yield _row_statement("begin", migration, writer)
        yield escape_for_psql(_with_transactions(migration.up.sql, statements))
        yield ";"  # in a line of its own, as what precedes it may end in a comment
    yield _NEW_SESSION
    if not migration.up.transactional:
        yield _row_statement("finish", migration, writer, len(statements))


def _transaction(sql: str, record: str) -> str:
    """Return a section and its row in one transaction, as one message where `up` has to send one."""
    text = f"begin deferrable;\n{sql}\n;\n{RESET_ROLE}\n{record}\ncommit;"
    if _DECIDES_HOW_TO_READ.search(sql) is None:
        return escape_for_psql(text)
    return f"{escape_for_psql(text.removesuffix(';'), join=True)};"


def _with_transactions(sql: str, statements: Sequence[Statement]) -> str:
    """Return a section in which a statement that needs a transaction has one of its own, as in `up`."""
    parts, position, is_open = [], 0, False
    for statement in statements:
        code = statement.text[find_code(statement.text) :]
        use = statement.transaction_use
        end = statement.offset + len(statement.text)
        if use is TransactionUse.TRANSACTIONAL and not is_open and _NEEDS_TRANSACTION.match(code):
            parts += [sql[position : statement.offset], "begin; ", statement.text, "\n; commit"]
            position = end
        is_open = (is_open or _BEGINS.match(code) is not None) and use is not TransactionUse.COMMIT
    return "".join((*parts, sql[position:]))


def _row_statement(name: str, migration: Migration, writer: LedgerWriter, statements: int = 0) -> str:
    return bind(
        _SQL[name],
        table=quoted(writer.schema, writer.table),
        revision=literal(migration.revision),
        checksum=literal(migration.checksum),
        batch=str(writer.batch),
        applied_by=literal(writer.applied_by),
        compatible_from=literal(migration.compatible_from),
        statements=str(statements),
    )
