"""Constraints that are checked against every row while the table is locked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.indexes import OUTSIDE
from migrations.lint.parser import dotted, identifier, names_of, relation, sql_of
from migrations.lint.rule import ALTER_TABLE, Hit, Level, Lock, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.parser import Name, ParsedStatement
    from migrations.lint.schema import Schema, StatementContext

CHECK_NOT_VALID = Rule(
    "check-not-valid",
    Level.ERROR,
    "A CHECK that is added without NOT VALID blocks reads and writes while every row is checked.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-NOTES",
    Lock.ACCESS_EXCLUSIVE,
    ("constraint-missing-not-valid", "add_check_constraint"),
    details=(
        "NOT VALID applies to new rows at once and checks no existing row. VALIDATE checks the existing "
        "rows later under SHARE UPDATE EXCLUSIVE, which lets reads and writes pass. A CHECK on a column "
        "that is being added counts too: PostgreSQL checks every row for it."
    ),
    safe=(
        "ALTER TABLE users ADD CONSTRAINT users_age_check CHECK (age > 0) NOT VALID;",
        "-- in a later migration:",
        "ALTER TABLE users VALIDATE CONSTRAINT users_age_check;",
    ),
)
FOREIGN_KEY_NOT_VALID = Rule(
    "foreign-key-not-valid",
    Level.ERROR,
    "A FOREIGN KEY that is added without NOT VALID blocks writes to both tables while every row is checked.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-NOTES",
    Lock.SHARE_ROW_EXCLUSIVE,
    ("adding-foreign-key-constraint", "add_foreign_key"),
    details=(
        "Both tables take the lock. A new column with REFERENCES and without a default passes: it has "
        "nothing to check. On a partitioned table NOT VALID works from PostgreSQL 18 on."
    ),
    safe=(
        "ALTER TABLE orders ADD CONSTRAINT orders_user_id_fkey FOREIGN KEY (user_id) REFERENCES users NOT VALID;",
        "-- in a later migration:",
        "ALTER TABLE orders VALIDATE CONSTRAINT orders_user_id_fkey;",
    ),
)
NOT_NULL_SCAN = Rule(
    "not-null-scan",
    Level.ERROR,
    "SET NOT NULL without a validated CHECK blocks reads and writes while every row is looked at.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-DESC-SET-DROP-NOT-NULL",
    Lock.ACCESS_EXCLUSIVE,
    ("adding-not-nullable-field", "change_column_null"),
    details=(
        "From PostgreSQL 12 on, SET NOT NULL skips the scan when a valid CHECK already proves that there "
        "is no NULL. Lint knows the CHECKs of earlier files. SET NOT NULL and DROP CONSTRAINT must be "
        "two statements: in one, PostgreSQL drops first."
    ),
    safe=(
        "ALTER TABLE users ADD CONSTRAINT users_name_is_not_null CHECK (name IS NOT NULL) NOT VALID;",
        "-- in a later migration:",
        "ALTER TABLE users VALIDATE CONSTRAINT users_name_is_not_null;",
        "-- and after that one:",
        "ALTER TABLE users ALTER COLUMN name SET NOT NULL;",
        "ALTER TABLE users DROP CONSTRAINT users_name_is_not_null;",
    ),
)
VALIDATE_IN_SAME_TRANSACTION = Rule(
    "validate-in-same-transaction",
    Level.ERROR,
    "VALIDATE in the transaction that adds the constraint keeps the lock of the addition while every row is checked.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-NOTES",
    Lock.SHARE_ROW_EXCLUSIVE,
    ("constraint-missing-not-valid", "validate_constraint"),
    details=(
        "A transaction keeps its locks until it ends. The lock below is that of a foreign key; a CHECK "
        "keeps ACCESS EXCLUSIVE."
    ),
    safe=(
        "-- in a later migration, so in a transaction of its own:",
        "ALTER TABLE users VALIDATE CONSTRAINT users_age_check;",
    ),
)
UNIQUE_WITHOUT_INDEX = Rule(
    "unique-without-index",
    Level.ERROR,
    "UNIQUE or PRIMARY KEY without USING INDEX blocks reads and writes until its index is built.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-DESC-ADD-TABLE-CONSTRAINT-USING-INDEX",
    Lock.ACCESS_EXCLUSIVE,
    ("disallowed-unique-constraint", "adding-serial-primary-key-field", "add_unique_constraint"),
    details=(
        "Build the index first, without blocking; the constraint then takes it over without a scan. For "
        "a PRIMARY KEY the columns must be NOT NULL before."
    ),
    safe=(
        "-- migrate:up transaction:false",
        "CREATE UNIQUE INDEX CONCURRENTLY users_email_key ON users (email);",
        "-- in a later migration:",
        "ALTER TABLE users ADD CONSTRAINT users_email_key UNIQUE USING INDEX users_email_key;",
    ),
)
EXCLUSION_CONSTRAINT = Rule(
    "exclusion-constraint",
    Level.ERROR,
    "EXCLUDE blocks reads and writes until its index is built, and there is no other way to add it.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-NOTES",
    Lock.ACCESS_EXCLUSIVE,
    ("add_exclusion_constraint",),
    details="EXCLUDE has neither USING INDEX nor NOT VALID.",
    safe=("-- none that is online: add it while the table is small, or in a maintenance window",),
)
DOMAIN_CONSTRAINT = Rule(
    "domain-constraint",
    Level.ERROR,
    "A constraint that is added to a domain blocks writes to every table that uses it, while every row is checked.",
    "https://www.postgresql.org/docs/current/sql-alterdomain.html",
    Lock.SHARE,
    ("ban-alter-domain-with-add-constraint",),
    details=(
        "Every table with a column of the domain is locked and scanned. NOT VALID makes the addition "
        "short; VALIDATE still takes SHARE."
    ),
    safe=(
        "ALTER DOMAIN positive ADD CONSTRAINT positive_check CHECK (VALUE > 0) NOT VALID;",
        "-- in a later migration, at a quiet time:",
        "ALTER DOMAIN positive VALIDATE CONSTRAINT positive_check;",
    ),
)
RULES = (
    CHECK_NOT_VALID,
    FOREIGN_KEY_NOT_VALID,
    NOT_NULL_SCAN,
    VALIDATE_IN_SAME_TRANSACTION,
    UNIQUE_WITHOUT_INDEX,
    EXCLUSION_CONSTRAINT,
    DOMAIN_CONSTRAINT,
)
_AT = enums.AlterTableType
_KIND = enums.ConstrType
_LATER = "-- in a later migration, so in a transaction of its own:"


def check(statement: ParsedStatement, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    """Give the constraints that a statement checks under a lock."""
    match statement.node:
        case ast.AlterTableStmt(objtype=enums.ObjectType.OBJECT_TABLE) as node:
            table = relation(node.relation)
            if not catalog.is_new(table, place.file):
                for command in node.cmds or ():
                    yield from _command(table, command, node.cmds, place, catalog)
        case ast.AlterDomainStmt() as node if not catalog.type_is_new(dotted(node.typeName), place.file):
            yield from _domain(node)


def _command(table: Name, command: Any, commands: Any, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    match command.subtype:
        case _AT.AT_AddConstraint:
            yield from _added(table, command.def_, catalog)
        case _AT.AT_SetNotNull if not catalog.proves_not_null(table, command.name):
            yield _not_null(table, command.name)
        case _AT.AT_AddColumn:
            column = command.def_
            for constraint in column.constraints or ():
                yield from _inline(table, column, constraint)
        case _AT.AT_ValidateConstraint:
            yield from _validated(table, command.name, commands, place, catalog)


def _validated(table: Name, name: str, commands: Any, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    here = [c.def_ for c in commands if c.subtype == _AT.AT_AddConstraint and c.def_.conname == name]
    before = catalog.unvalidated(table, name)
    if here:
        foreign = here[0].contype == _KIND.CONSTR_FOREIGN
    elif before and before.transaction is not None and before.transaction == place.transaction:
        foreign = before.foreign
    else:
        return
    yield Hit(
        VALIDATE_IN_SAME_TRANSACTION,
        f"{identifier(name)} is validated while the lock of its addition is still held",
        (_LATER, f"ALTER TABLE {table} VALIDATE CONSTRAINT {identifier(name)};"),
        (str(table),),
        Lock.SHARE_ROW_EXCLUSIVE if foreign else Lock.ACCESS_EXCLUSIVE,
    )


def _added(table: Name, constraint: Any, catalog: Schema) -> Iterator[Hit]:
    if constraint.skip_validation or (
        constraint.contype in {_KIND.CONSTR_CHECK, _KIND.CONSTR_FOREIGN} and _off(constraint)
    ):
        return
    match constraint.contype:
        case _KIND.CONSTR_CHECK:
            name = constraint.conname or f"{table.name}_check"
            yield _check(table, name, sql_of(constraint.raw_expr))
        case _KIND.CONSTR_FOREIGN:
            yield _foreign(table, constraint, sql_of(constraint), catalog)
        case _KIND.CONSTR_NOTNULL:
            for key in constraint.keys or ():
                yield _not_null(table, key.sval)
        case _KIND.CONSTR_UNIQUE | _KIND.CONSTR_PRIMARY if not constraint.indexname:
            yield _unique(table, constraint, names_of(constraint.keys))
        case _KIND.CONSTR_EXCLUSION:
            yield Hit(
                EXCLUSION_CONSTRAINT,
                f"EXCLUDE blocks reads and writes of {table} until its index is built",
                (f"-- none that is online: add it while {table} is small, or in a maintenance window",),
                (str(table),),
            )


def _off(constraint: Any) -> bool:
    """Whether it says NOT ENFORCED (PostgreSQL 18)."""
    return not constraint.is_enforced


def _inline(table: Name, column: Any, constraint: Any) -> Iterator[Hit]:
    """Judge a constraint of a column that is being added."""
    name = identifier(column.colname)
    match constraint.contype:
        case _KIND.CONSTR_CHECK:
            yield _check(
                table, constraint.conname or f"{table.name}_{column.colname}_check", sql_of(constraint.raw_expr)
            )
        case _KIND.CONSTR_UNIQUE | _KIND.CONSTR_PRIMARY:
            yield _unique(table, constraint, name)
        case _KIND.CONSTR_FOREIGN if any(c.contype == _KIND.CONSTR_DEFAULT for c in column.constraints):
            named = identifier(constraint.conname or f"{table.name}_{column.colname}_fkey")
            yield _foreign(table, constraint, f"CONSTRAINT {named} FOREIGN KEY ({name}) {_references(constraint)}")


def _references(constraint: Any) -> str:
    text = sql_of(constraint)
    return text[text.find("REFERENCES") :] if "REFERENCES" in text else text


def _check(table: Name, constraint: str, expression: str) -> Hit:
    named = identifier(constraint)
    return Hit(
        CHECK_NOT_VALID,
        f"CHECK blocks reads and writes of {table} while every row is checked",
        (
            f"ALTER TABLE {table} ADD CONSTRAINT {named} CHECK ({expression}) NOT VALID;",
            _LATER,
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {named};",
        ),
        (str(table),),
    )


def _foreign(table: Name, constraint: Any, definition: str, catalog: Schema | None = None) -> Hit:
    other = relation(constraint.pktable)
    columns = "_".join(key.sval for key in constraint.fk_attrs or ())
    named = identifier(constraint.conname or (f"{table.name}_{columns}_fkey" if columns else "NAME"))
    if not definition.startswith("CONSTRAINT"):
        definition = f"CONSTRAINT {named} {definition}"
    known = catalog.table(table) if catalog else None
    hint = (f"-- {table} is partitioned: NOT VALID works from PostgreSQL 18 on; before, add it to each partition",)
    return Hit(
        FOREIGN_KEY_NOT_VALID,
        f"FOREIGN KEY blocks writes to {table} and {other} while every row is checked",
        (
            *(hint if known and known.partitioned else ()),
            f"ALTER TABLE {table} ADD {definition} NOT VALID;",
            _LATER,
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {named};",
        ),
        (str(table), str(other)),
    )


def _not_null(table: Name, column: str) -> Hit:
    name, constraint = identifier(column), identifier(f"{table.name}_{column}_is_not_null")
    return Hit(
        NOT_NULL_SCAN,
        f"SET NOT NULL on {name} blocks reads and writes of {table} while every row is looked at",
        (
            f"ALTER TABLE {table} ADD CONSTRAINT {constraint} CHECK ({name} IS NOT NULL) NOT VALID;",
            _LATER,
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint};",
            "-- and after that one, without looking at a row:",
            f"ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL;",
            f"ALTER TABLE {table} DROP CONSTRAINT {constraint};",
        ),
        (str(table),),
    )


def _unique(table: Name, constraint: Any, columns: str) -> Hit:
    primary = constraint.contype == _KIND.CONSTR_PRIMARY
    kind, suffix = ("PRIMARY KEY", "pkey") if primary else ("UNIQUE", "key")
    name = constraint.conname or "_".join(
        [table.name, *([] if primary else columns.replace('"', "").split(", ")), suffix]
    )
    named = identifier(name)
    before = (f"-- every column of ({columns}) must be NOT NULL before, see not-null-scan",) if primary else ()
    return Hit(
        UNIQUE_WITHOUT_INDEX,
        f"{kind} ({columns}) blocks reads and writes of {table} until its index is built",
        (
            OUTSIDE,
            f"CREATE UNIQUE INDEX CONCURRENTLY {named} ON {table} ({columns});",
            *before,
            "-- in a later migration:",
            f"ALTER TABLE {table} ADD CONSTRAINT {named} {kind} USING INDEX {named};",
        ),
        (str(table),),
    )


def _domain(node: Any) -> Iterator[Hit]:
    domain = dotted(node.typeName)
    if node.subtype == "C" and not node.def_.skip_validation and node.def_.contype == _KIND.CONSTR_CHECK:
        named = identifier(node.def_.conname or f"{domain.name}_check")
        safe: tuple[str, ...] = (
            f"ALTER DOMAIN {domain} ADD CONSTRAINT {named} CHECK ({sql_of(node.def_.raw_expr)}) NOT VALID;",
            _LATER,
            f"ALTER DOMAIN {domain} VALIDATE CONSTRAINT {named};  -- still blocks writes: at a quiet time",
        )
    elif node.subtype == "O":
        safe = (f"-- none that is online: put the constraint on the columns of type {domain}",)
    else:
        return
    tables = f"every table with a column of type {domain}"
    yield Hit(DOMAIN_CONSTRAINT, f"the domain's new constraint blocks writes to {tables}", safe, (tables,))
