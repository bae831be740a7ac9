"""Constraints that PostgreSQL checks against every row while the table is locked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import Name, column_list, qualified_name, quote_ident, relation_name, to_sql
from migrations.lint.rule import ALTER_TABLE, OWN_MIGRATION, Level, Lock, Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.parser import ParsedStatement
    from migrations.lint.schema import Schema

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
    "SET NOT NULL without a validated CHECK blocks reads and writes while every row is checked.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-DESC-SET-DROP-NOT-NULL",
    Lock.ACCESS_EXCLUSIVE,
    ("adding-not-nullable-field", "change_column_null"),
    details=(
        "From PostgreSQL 12 on, SET NOT NULL skips the scan when a valid CHECK already proves that there "
        "is no NULL. Lint knows the CHECKs of earlier files, and the columns that are NOT NULL already. SET NOT "
        "NULL and DROP CONSTRAINT must be two statements: in one, PostgreSQL drops first. PRIMARY KEY USING INDEX "
        "makes its columns NOT NULL, and scans the table where one is not."
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
    "VALIDATE in the transaction that adds the constraint keeps the lock of ADD CONSTRAINT while every row is checked.",
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
    "EXCLUDE blocks reads and writes until its index is built, and there is no online way to add it.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-NOTES",
    Lock.ACCESS_EXCLUSIVE,
    ("add_exclusion_constraint",),
    details="EXCLUDE has neither USING INDEX nor NOT VALID.",
    safe=("-- there is no online way: add it while the table is small, or in a maintenance window",),
)
DOMAIN_CONSTRAINT = Rule(
    "domain-constraint",
    Level.ERROR,
    "A new constraint on a domain blocks writes to every table that uses the domain while every row is checked.",
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
_LATER_MIGRATION = "-- in a later migration, so in a transaction of its own:"


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield the constraints that a statement checks against the rows of existing tables."""
    match statement.node:
        case ast.AlterTableStmt(objtype=enums.ObjectType.OBJECT_TABLE) as node:
            table = relation_name(node.relation)
            if not context.is_new(table):
                for command in node.cmds or ():
                    yield from _check_command(table, command, node.cmds, context)
        case ast.AlterDomainStmt() as node if not context.type_is_new(qualified_name(node.typeName)):
            yield from _check_domain(node)


def _check_command(table: Name, command: Any, commands: Any, context: StatementContext) -> Iterator[Violation]:
    match command.subtype:
        case _AT.AT_AddConstraint:
            yield from _check_added_constraint(table, command.def_, context)
        case _AT.AT_SetNotNull if not context.proves_not_null(table, command.name):
            yield _not_null_violation(table, command.name)
        case _AT.AT_AddColumn if not context.adds_nothing(table, command):
            column = command.def_
            for constraint in column.constraints or ():
                yield from _check_column_constraint(table, column, constraint)
        case _AT.AT_ValidateConstraint:
            yield from _check_validate(table, command.name, commands, context)


def _check_validate(table: Name, name: str, commands: Any, context: StatementContext) -> Iterator[Violation]:
    added = [c.def_ for c in commands if c.subtype == _AT.AT_AddConstraint and c.def_.conname == name]
    earlier = context.schema.unvalidated(table, name)
    if added:  # by the same ALTER TABLE, which runs in one transaction even where the section has none
        foreign = added[0].contype == _KIND.CONSTR_FOREIGN
    elif earlier and earlier.transaction is not None and earlier.transaction == context.transaction:
        foreign = earlier.references is not None
    else:
        return
    yield Violation(
        VALIDATE_IN_SAME_TRANSACTION,
        f"{quote_ident(name)} is validated while the lock that ADD CONSTRAINT took is still held",
        (_LATER_MIGRATION, f"ALTER TABLE {table} VALIDATE CONSTRAINT {quote_ident(name)};"),
        (str(table),),
        Lock.SHARE_ROW_EXCLUSIVE if foreign else Lock.ACCESS_EXCLUSIVE,
    )


def _check_added_constraint(table: Name, constraint: Any, context: StatementContext) -> Iterator[Violation]:
    if constraint.skip_validation:  # NOT VALID, or NOT ENFORCED, which implies it (processCASbits in gram.y)
        return
    match constraint.contype:
        case _KIND.CONSTR_CHECK:
            name = constraint.conname or f"{table.name}_check"
            yield _check_violation(table, name, to_sql(constraint.raw_expr))
        case _KIND.CONSTR_FOREIGN:
            yield _foreign_key_violation(table, constraint, to_sql(constraint), context.schema)
        case _KIND.CONSTR_NOTNULL:
            for key in constraint.keys or ():
                if not context.proves_not_null(table, key.sval):
                    yield _not_null_violation(table, key.sval)
        case _KIND.CONSTR_PRIMARY if constraint.indexname:
            yield from _check_primary_key_using_index(table, constraint.indexname, context)
        case _KIND.CONSTR_UNIQUE | _KIND.CONSTR_PRIMARY if not constraint.indexname:
            yield _unique_violation(table, constraint, column_list(constraint.keys))
        case _KIND.CONSTR_EXCLUSION:
            yield Violation(
                EXCLUSION_CONSTRAINT,
                f"EXCLUDE blocks reads and writes of {table} until its index is built",
                (f"-- there is no online way: add it while {table} is small, or in a maintenance window",),
                (str(table),),
            )


def _check_primary_key_using_index(table: Name, index: str, context: StatementContext) -> Iterator[Violation]:
    known = context.schema.index(Name(table.schema, index))
    for column in known.keys if known else ():
        if not context.proves_not_null(table, column):
            yield _not_null_violation(table, column, by="PRIMARY KEY USING INDEX")


def _check_column_constraint(table: Name, column: Any, constraint: Any) -> Iterator[Violation]:
    """Judge a constraint in the definition of a column that is being added."""
    if constraint.skip_validation:  # NOT ENFORCED
        return
    name = quote_ident(column.colname)
    match constraint.contype:
        case _KIND.CONSTR_CHECK:
            yield _check_violation(
                table,
                constraint.conname or f"{table.name}_{column.colname}_check",
                to_sql(constraint.raw_expr),
            )
        case _KIND.CONSTR_UNIQUE | _KIND.CONSTR_PRIMARY:
            yield _unique_violation(table, constraint, name)
        # Without a default every row gets NULL, which a foreign key allows, so PostgreSQL checks no row
        # (skipValidation in parse_utilcmd.c).
        case _KIND.CONSTR_FOREIGN if any(c.contype == _KIND.CONSTR_DEFAULT for c in column.constraints):
            named = quote_ident(constraint.conname or f"{table.name}_{column.colname}_fkey")
            yield _foreign_key_violation(
                table, constraint, f"CONSTRAINT {named} FOREIGN KEY ({name}) {_references(constraint)}"
            )


def _references(constraint: Any) -> str:
    """Print a column's foreign key from REFERENCES on; a table constraint has its columns before that."""
    text = to_sql(constraint)
    return text[text.find("REFERENCES") :] if "REFERENCES" in text else text


def _check_violation(table: Name, constraint: str, expression: str) -> Violation:
    named = quote_ident(constraint)
    return Violation(
        CHECK_NOT_VALID,
        f"CHECK blocks reads and writes of {table} while every row is checked",
        (
            f"ALTER TABLE {table} ADD CONSTRAINT {named} CHECK ({expression}) NOT VALID;",
            _LATER_MIGRATION,
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {named};",
        ),
        (str(table),),
    )


def _foreign_key_violation(table: Name, constraint: Any, definition: str, schema: Schema | None = None) -> Violation:
    other = relation_name(constraint.pktable)
    both = f"{table}" if other.matches(table) else f"{table} and {other}"
    columns = "_".join(key.sval for key in constraint.fk_attrs or ())
    named = quote_ident(constraint.conname or (f"{table.name}_{columns}_fkey" if columns else "NAME"))
    if not definition.startswith("CONSTRAINT"):
        definition = f"CONSTRAINT {named} {definition}"
    known = schema.table(table) if schema else None
    hint = (f"-- {table} is partitioned: NOT VALID works from PostgreSQL 18 on; before 18, add it to each partition",)
    return Violation(
        FOREIGN_KEY_NOT_VALID,
        f"FOREIGN KEY blocks writes to {both} while every row is checked",
        (
            *(hint if known and known.partition_key is not None else ()),
            f"ALTER TABLE {table} ADD {definition} NOT VALID;",
            _LATER_MIGRATION,
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {named};",
        ),
        (str(table),) if other.matches(table) else (str(table), str(other)),
    )


def _not_null_violation(table: Name, column: str, by: str = "SET NOT NULL") -> Violation:
    name, constraint = quote_ident(column), quote_ident(f"{table.name}_{column}_is_not_null")
    return Violation(
        NOT_NULL_SCAN,
        f"{by} on {name} blocks reads and writes of {table} while every row is checked",
        (
            f"ALTER TABLE {table} ADD CONSTRAINT {constraint} CHECK ({name} IS NOT NULL) NOT VALID;",
            _LATER_MIGRATION,
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint};",
            "-- after that one, and now without a scan:",
            f"ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL;",
            f"ALTER TABLE {table} DROP CONSTRAINT {constraint};",
        ),
        (str(table),),
    )


def _unique_violation(table: Name, constraint: Any, columns: str) -> Violation:
    primary = constraint.contype == _KIND.CONSTR_PRIMARY
    kind, suffix = ("PRIMARY KEY", "pkey") if primary else ("UNIQUE", "key")
    name = constraint.conname or "_".join(
        [table.name, *([] if primary else columns.replace('"', "").split(", ")), suffix]
    )
    named = quote_ident(name)
    not_null = (f"-- every column of ({columns}) must be NOT NULL before: see not-null-scan",) if primary else ()
    return Violation(
        UNIQUE_WITHOUT_INDEX,
        f"{kind} ({columns}) blocks reads and writes of {table} until its index is built",
        (
            OWN_MIGRATION,
            f"CREATE UNIQUE INDEX CONCURRENTLY {named} ON {table} ({columns});",
            *not_null,
            "-- in a later migration:",
            f"ALTER TABLE {table} ADD CONSTRAINT {named} {kind} USING INDEX {named};",
        ),
        (str(table),),
    )


def _check_domain(node: Any) -> Iterator[Violation]:
    domain = qualified_name(node.typeName)
    # The letters of AlterDomainStmt in PostgreSQL's parsenodes.h: C is ADD CONSTRAINT, O is SET NOT NULL.
    if node.subtype == "C" and not node.def_.skip_validation and node.def_.contype == _KIND.CONSTR_CHECK:
        named = quote_ident(node.def_.conname or f"{domain.name}_check")
        safe: tuple[str, ...] = (
            f"ALTER DOMAIN {domain} ADD CONSTRAINT {named} CHECK ({to_sql(node.def_.raw_expr)}) NOT VALID;",
            _LATER_MIGRATION,
            f"ALTER DOMAIN {domain} VALIDATE CONSTRAINT {named};  -- still blocks writes: run it at a quiet time",
        )
    elif node.subtype == "O":
        safe = (f"-- there is no online way: make the columns of type {domain} NOT NULL, as not-null-scan says",)
    else:
        return
    tables = f"every table with a column of type {domain}"
    yield Violation(DOMAIN_CONSTRAINT, f"the new constraint on the domain blocks writes to {tables}", safe, (tables,))
