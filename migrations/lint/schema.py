"""What the files have made so far, as far as they say it: tables, columns, constraints, indexes, types.

Filled statement by statement by `record`; the rules only ask.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import Name, dotted, relation

if TYPE_CHECKING:
    from collections.abc import Iterable

_AT = enums.AlterTableType
_CONSTRAINT = enums.ConstrType
_OBJECT = enums.ObjectType
_UTC = frozenset(("UTC", "ETC/UTC", "GMT"))


@dataclass(slots=True)
class Check:
    """A constraint that may be validated later.

    Attributes:
        transaction: Number of the transaction that added it; None outside one.
        valid: Whether every row is known to satisfy it.
        not_null: Columns that it proves to hold no NULL.
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
        file: Number of the file that creates it; None where no file does.
        partitioned: Whether its rows live in partitions.
        columns: Type of each column that a file names.
        checks: Constraints by name.
    """

    file: int | None = None
    partitioned: bool = False
    columns: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, Check] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatementContext:
    """Where a statement stands.

    Attributes:
        file: Number of the file.
        transaction: Number of the transaction that it runs in; None where it commits by itself.
        transactional: Whether the whole section runs in a transaction.
        contract: Whether the migration says that it breaks older images.
        previous: The revision before this one; its own where there is none.
        rest: Every statement of the section.
    """

    file: int
    transaction: int | None
    transactional: bool = True
    contract: bool = False
    previous: str = ""
    rest: tuple[Any, ...] = ()


class Schema:
    """What there is."""

    def __init__(self) -> None:
        self._tables: dict[Name, Table] = {}
        self._indexes: dict[Name, Name] = {}  # index to table
        self._types: dict[Name, int] = {}  # type, domain or schema to the file that creates it
        self._values: dict[str, int] = {}  # value of an enum to the transaction that adds it
        self._volatility: dict[str, str] = {}  # of functions
        self.locked: tuple[int, Name] | None = None  # transaction, and the table that it keeps others from
        self.utc_in: int | None = None  # the file that has set the time zone to UTC

    def table(self, name: Name) -> Table | None:
        """What the files say of a table."""
        return self._tables.get(name) or next((table for key, table in self._tables.items() if key.same(name)), None)

    def is_new(self, name: Name, file: int) -> bool:
        """Whether this file creates the table, so that nobody uses it yet."""
        table = self.table(name)
        return table is not None and table.file == file

    def type_is_new(self, name: Name, file: int) -> bool:
        """Whether this file creates the type, domain or schema."""
        return any(made_in == file and key.same(name) for key, made_in in self._types.items())

    def column_type(self, table: Name, column: str) -> Any:
        """Type of a column as a TypeName; None where no file says it."""
        known = self.table(table)
        return known.columns.get(column) if known else None

    def proves_not_null(self, table: Name, column: str) -> bool:
        """Whether a valid CHECK says that the column holds no NULL."""
        known = self.table(table)
        return known is not None and any(check.valid and column in check.not_null for check in known.checks.values())

    def unvalidated(self, table: Name, constraint: str) -> Check | None:
        """Give a constraint that is not validated yet."""
        known = self.table(table)
        check = known.checks.get(constraint) if known else None
        return check if check and not check.valid else None

    def table_of_index(self, index: Name) -> Name | None:
        """The table of an index that a file creates."""
        return self._indexes.get(index) or next((on for key, on in self._indexes.items() if key.same(index)), None)

    def value_added_in(self, value: str) -> int | None:
        """Number of the transaction that adds a value to an enum which existed before."""
        return self._values.get(value)

    def volatility(self, function: str) -> str | None:
        """What CREATE FUNCTION says: `immutable`, `stable` or `volatile`."""
        return self._volatility.get(function)

    def record(self, node: Any, place: StatementContext) -> None:
        """Take note of what a statement does."""
        match node:
            case ast.CreateStmt():
                self._create(node, place)
            case (
                ast.CreateTableAsStmt(into=ast.IntoClause(rel=made))
                | ast.SelectStmt(intoClause=ast.IntoClause(rel=made))
            ):
                self._tables[relation(made)] = Table(place.file)
            case ast.ViewStmt():
                self._tables.setdefault(relation(node.view), Table(place.file))
            case ast.AlterTableStmt():
                table = self._known(relation(node.relation))
                for command in node.cmds or ():
                    _alter(table, command, place)
            case ast.IndexStmt(idxname=str(index)):
                on = relation(node.relation)
                self._indexes[Name(on.schema, index)] = on
            case ast.RenameStmt(relation=ast.RangeVar()):
                self._rename(node)
            case ast.DropStmt():
                self._drop(node)
            case ast.VariableSetStmt(name=str(variable)) if variable.lower() == "timezone":
                value = node.args[0] if node.args else None
                is_utc = isinstance(value, ast.A_Const) and getattr(value.val, "sval", "").upper() in _UTC
                self.utc_in = place.file if is_utc else None
            case _:
                self._record_type(node, place)

    def _record_type(self, node: Any, place: StatementContext) -> None:
        match node:
            case ast.CreateEnumStmt():
                self._types[dotted(node.typeName)] = place.file
            case ast.CompositeTypeStmt():
                self._types[relation(node.typevar)] = place.file
            case ast.CreateDomainStmt():
                self._types[dotted(node.domainname)] = place.file
            case ast.CreateSchemaStmt(schemaname=str(schema)):
                self._types[Name(None, schema)] = place.file
            case ast.AlterEnumStmt(oldVal=None, newVal=str(value)) if place.transaction is not None:
                if not self.type_is_new(dotted(node.typeName), place.file):
                    self._values[value] = place.transaction
            case ast.CreateFunctionStmt():
                said = [option.arg.sval for option in node.options or () if option.defname == "volatility"]
                self._volatility[dotted(node.funcname).name] = said[0] if said else "volatile"

    def _known(self, name: Name) -> Table:
        return self.table(name) or self._tables.setdefault(name, Table())

    def _create(self, node: Any, place: StatementContext) -> None:
        name = relation(node.relation)
        if node.if_not_exists and self.table(name):
            return
        table = Table(place.file, partitioned=node.partspec is not None)
        self._tables[name] = table
        for element in node.tableElts or ():
            match element:
                case ast.ColumnDef(colname=str(column)):
                    table.columns[column] = element.typeName
                case ast.Constraint():
                    _constrain(table, element, place)

    def _rename(self, node: Any) -> None:
        name = relation(node.relation)
        match node.renameType:
            case _OBJECT.OBJECT_TABLE | _OBJECT.OBJECT_VIEW | _OBJECT.OBJECT_MATVIEW:
                known = next((key for key in self._tables if key.same(name)), None)
                if known:
                    self._tables[Name(known.schema, node.newname)] = self._tables.pop(known)
            case _OBJECT.OBJECT_COLUMN:
                columns = self._known(name).columns
                if node.subname in columns:
                    columns[node.newname] = columns.pop(node.subname)
            case _OBJECT.OBJECT_INDEX:
                index = next((key for key in self._indexes if key.same(name)), None)
                if index:
                    self._indexes[Name(index.schema, node.newname)] = self._indexes.pop(index)

    def _drop(self, node: Any) -> None:
        kinds = {_OBJECT.OBJECT_TABLE, _OBJECT.OBJECT_VIEW, _OBJECT.OBJECT_MATVIEW}
        known: dict[Name, Any] | None = self._tables if node.removeType in kinds else None
        if node.removeType == _OBJECT.OBJECT_INDEX:
            known = self._indexes
        if known is None:
            return
        for name in map(dotted, node.objects):
            for key in [key for key in known if key.same(name)]:
                del known[key]


def columns_not_null(expression: Any) -> frozenset[str]:
    """Give the columns that an expression requires not to be NULL."""
    match expression:
        case ast.NullTest(
            nulltesttype=enums.NullTestType.IS_NOT_NULL, arg=ast.ColumnRef(fields=(ast.String(sval=str(name)),))
        ):
            return frozenset((name,))
        case ast.BoolExpr(boolop=enums.BoolExprType.AND_EXPR, args=(_, *_) as parts):
            return frozenset[str]().union(*map(columns_not_null, parts))
        case _:
            return frozenset()


def _alter(table: Table, command: Any, place: StatementContext) -> None:
    match command.subtype:
        case _AT.AT_AddColumn:
            table.columns[command.def_.colname] = command.def_.typeName
        case _AT.AT_DropColumn:
            table.columns.pop(command.name, None)
        case _AT.AT_AlterColumnType:
            table.columns[command.name] = command.def_.typeName
        case _AT.AT_AddConstraint:
            _constrain(table, command.def_, place)
        case _AT.AT_DropConstraint:
            table.checks.pop(command.name, None)
        case _AT.AT_ValidateConstraint if command.name in table.checks:
            table.checks[command.name].valid = True


def _constrain(table: Table, constraint: Any, place: StatementContext) -> None:
    match constraint.contype:
        case _CONSTRAINT.CONSTR_CHECK:
            not_null = columns_not_null(constraint.raw_expr)
        case _CONSTRAINT.CONSTR_NOTNULL:
            not_null = frozenset(key.sval for key in constraint.keys or ())
        case _CONSTRAINT.CONSTR_FOREIGN:
            not_null = frozenset()
        case _:
            return
    name = constraint.conname or _unnamed(table.checks)
    foreign = constraint.contype == _CONSTRAINT.CONSTR_FOREIGN
    table.checks[name] = Check(place.transaction, not constraint.skip_validation, not_null, foreign)


def _unnamed(taken: Iterable[str]) -> str:
    return f"unnamed constraint {len(list(taken))}"
