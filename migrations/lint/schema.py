"""The database schema as the statements so far have made it: tables, columns, constraints, indexes, types.

The linter applies one statement after another; the rules only read. What no file creates is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pglast import ast, enums

from migrations.lint.parser import Name, qualified_name, relation_name

_AT = enums.AlterTableType
_CONSTRAINT = enums.ConstrType
_OBJECT = enums.ObjectType
_UTC = frozenset(("UTC", "ETC/UTC", "GMT"))


@dataclass(slots=True)
class Constraint:
    """A constraint of a kind that VALIDATE CONSTRAINT takes: CHECK, NOT NULL or FOREIGN KEY.

    Attributes:
        transaction: Number of the transaction that added it; None where the statement committed by itself.
        valid: Whether every row satisfies it: it was added without NOT VALID, or has been validated.
        not_null: Columns that contain no NULL in a row that satisfies it.
        foreign: Whether it is a foreign key.
    """

    transaction: int | None
    valid: bool
    not_null: frozenset[str]
    foreign: bool = False


@dataclass(slots=True)
class Table:
    """A table, a view or a materialized view.

    Attributes:
        file: Index of the file that creates it; None where no file does.
        partitioned: Whether its rows are stored in partitions.
        columns: TypeName of each column that a file adds.
        constraints: Constraints by name.
    """

    file: int | None = None
    partitioned: bool = False
    columns: dict[str, Any] = field(default_factory=dict)
    constraints: dict[str, Constraint] = field(default_factory=dict)


class Schema:
    """The schema after the statements that were applied.

    Attributes:
        locked_table: Number of the last transaction that locked an existing table, and the table.
        utc_file: Index of the file that last set the session's time zone to UTC; None after any other zone.
    """

    def __init__(self) -> None:
        self._tables: dict[Name, Table] = {}
        self._indexes: dict[Name, Name] = {}  # index to table
        self._types: dict[Name, int] = {}  # type, domain or schema to the file that creates it
        self._enum_values: dict[str, int] = {}  # value to the transaction that adds it to an existing enum
        self._volatility: dict[str, str] = {}  # by function
        self.locked_table: tuple[int, Name] | None = None
        self.utc_file: int | None = None

    def table(self, name: Name) -> Table | None:
        """Return a table that a file creates or alters."""
        matching = (table for key, table in self._tables.items() if key.matches(name))
        return self._tables.get(name) or next(matching, None)

    def is_new(self, name: Name, file: int) -> bool:
        """Whether a file creates the table."""
        table = self.table(name)
        return table is not None and table.file == file

    def type_is_new(self, name: Name, file: int) -> bool:
        """Whether a file creates the type, domain or schema."""
        return any(creator == file and key.matches(name) for key, creator in self._types.items())

    def column_type(self, table: Name, column: str) -> Any:
        """Return the TypeName of a column; None where no file adds it."""
        known = self.table(table)
        return known.columns.get(column) if known else None

    def proves_not_null(self, table: Name, column: str) -> bool:
        """Whether a valid constraint proves that the column contains no NULL."""
        known = self.table(table)
        constraints = known.constraints.values() if known else ()
        return any(constraint.valid and column in constraint.not_null for constraint in constraints)

    def unvalidated(self, table: Name, constraint: str) -> Constraint | None:
        """Return a constraint that is not validated yet."""
        known = self.table(table)
        found = known.constraints.get(constraint) if known else None
        return found if found and not found.valid else None

    def table_of_index(self, index: Name) -> Name | None:
        """Return the table of an index; None where no file creates the index."""
        return self._indexes.get(index) or next(
            (table for key, table in self._indexes.items() if key.matches(index)), None
        )

    def value_added_in(self, value: str) -> int | None:
        """Return the number of the transaction that adds a value to an enum of an earlier file."""
        return self._enum_values.get(value)

    def volatility(self, function: str) -> str | None:
        """Return `immutable`, `stable` or `volatile`, as CREATE FUNCTION declares it; None where no file does."""
        return self._volatility.get(function)

    def apply(self, node: Any, file: int, transaction: int | None) -> None:
        """Change the schema as a statement does.

        Args:
            node: Parse tree of the statement.
            file: Index of its file.
            transaction: Number of the transaction that it runs in; None where it commits by itself.
        """
        match node:
            case ast.CreateStmt():
                self._create_table(node, file, transaction)
            case (
                ast.CreateTableAsStmt(into=ast.IntoClause(rel=created))
                | ast.SelectStmt(intoClause=ast.IntoClause(rel=created))
            ):
                self._tables[relation_name(created)] = Table(file)
            case ast.ViewStmt():
                self._tables.setdefault(relation_name(node.view), Table(file))
            case ast.AlterTableStmt():
                table = self._table_or_new(relation_name(node.relation))
                for command in node.cmds or ():
                    _alter_table(table, command, transaction)
            case ast.IndexStmt(idxname=str(index)):
                table_name = relation_name(node.relation)
                self._indexes[Name(table_name.schema, index)] = table_name
            case ast.RenameStmt(relation=ast.RangeVar()):
                self._rename(node)
            case ast.DropStmt():
                self._drop(node)
            case ast.VariableSetStmt(name=str(variable)) if variable.lower() == "timezone":
                value = node.args[0] if node.args else None
                is_utc = isinstance(value, ast.A_Const) and getattr(value.val, "sval", "").upper() in _UTC
                self.utc_file = file if is_utc else None
            case _:
                self._apply_to_types(node, file, transaction)

    def _apply_to_types(self, node: Any, file: int, transaction: int | None) -> None:
        match node:
            case ast.CreateEnumStmt():
                self._types[qualified_name(node.typeName)] = file
            case ast.CompositeTypeStmt():
                self._types[relation_name(node.typevar)] = file
            case ast.CreateDomainStmt():
                self._types[qualified_name(node.domainname)] = file
            case ast.CreateSchemaStmt(schemaname=str(schema)):
                self._types[Name(None, schema)] = file
            case ast.AlterEnumStmt(oldVal=None, newVal=str(value)) if transaction is not None:
                if not self.type_is_new(qualified_name(node.typeName), file):
                    self._enum_values[value] = transaction
            case ast.CreateFunctionStmt():
                declared = [option.arg.sval for option in node.options or () if option.defname == "volatility"]
                self._volatility[qualified_name(node.funcname).name] = declared[0] if declared else "volatile"

    def _table_or_new(self, name: Name) -> Table:
        return self.table(name) or self._tables.setdefault(name, Table())

    def _create_table(self, node: Any, file: int, transaction: int | None) -> None:
        name = relation_name(node.relation)
        if node.if_not_exists and self.table(name):
            return
        table = Table(file, partitioned=node.partspec is not None)
        self._tables[name] = table
        for element in node.tableElts or ():
            match element:
                case ast.ColumnDef(colname=str(column)):
                    table.columns[column] = element.typeName
                case ast.Constraint():
                    _add_constraint(table, element, transaction)

    def _rename(self, node: Any) -> None:
        name = relation_name(node.relation)
        match node.renameType:
            case _OBJECT.OBJECT_TABLE | _OBJECT.OBJECT_VIEW | _OBJECT.OBJECT_MATVIEW:
                known = next((key for key in self._tables if key.matches(name)), None)
                if known:
                    self._tables[Name(known.schema, node.newname)] = self._tables.pop(known)
            case _OBJECT.OBJECT_COLUMN:
                columns = self._table_or_new(name).columns
                if node.subname in columns:
                    columns[node.newname] = columns.pop(node.subname)
            case _OBJECT.OBJECT_INDEX:
                index = next((key for key in self._indexes if key.matches(name)), None)
                if index:
                    self._indexes[Name(index.schema, node.newname)] = self._indexes.pop(index)

    def _drop(self, node: Any) -> None:
        known: dict[Name, Any]
        match node.removeType:
            case _OBJECT.OBJECT_TABLE | _OBJECT.OBJECT_VIEW | _OBJECT.OBJECT_MATVIEW:
                known = self._tables
            case _OBJECT.OBJECT_INDEX:
                known = self._indexes
            case _:
                return
        for name in map(qualified_name, node.objects):
            for key in [key for key in known if key.matches(name)]:
                del known[key]


def _columns_not_null(expression: Any) -> frozenset[str]:
    """Return the columns that an expression requires not to be NULL."""
    match expression:
        case ast.NullTest(
            nulltesttype=enums.NullTestType.IS_NOT_NULL, arg=ast.ColumnRef(fields=(ast.String(sval=str(name)),))
        ):
            return frozenset((name,))
        case ast.BoolExpr(boolop=enums.BoolExprType.AND_EXPR, args=(_, *_) as parts):
            return frozenset[str]().union(*map(_columns_not_null, parts))
        case _:
            return frozenset()


def _alter_table(table: Table, command: Any, transaction: int | None) -> None:
    match command.subtype:
        case _AT.AT_AddColumn:
            table.columns[command.def_.colname] = command.def_.typeName
        case _AT.AT_DropColumn:
            table.columns.pop(command.name, None)
        case _AT.AT_AlterColumnType:
            table.columns[command.name] = command.def_.typeName
        case _AT.AT_AddConstraint:
            _add_constraint(table, command.def_, transaction)
        case _AT.AT_DropConstraint:
            table.constraints.pop(command.name, None)
        case _AT.AT_ValidateConstraint if command.name in table.constraints:
            table.constraints[command.name].valid = True


def _add_constraint(table: Table, constraint: Any, transaction: int | None) -> None:
    match constraint.contype:
        case _CONSTRAINT.CONSTR_CHECK:
            not_null = _columns_not_null(constraint.raw_expr)
        case _CONSTRAINT.CONSTR_NOTNULL:
            not_null = frozenset(key.sval for key in constraint.keys or ())
        case _CONSTRAINT.CONSTR_FOREIGN:
            not_null = frozenset()
        case _:
            return
    # VALIDATE needs a name; under any key of its own, an unnamed constraint still proves that a column has no NULL.
    name = constraint.conname or f"unnamed constraint {len(table.constraints)}"
    foreign = constraint.contype == _CONSTRAINT.CONSTR_FOREIGN
    table.constraints[name] = Constraint(transaction, not constraint.skip_validation, not_null, foreign)
