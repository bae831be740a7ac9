"""The database schema as the statements so far have made it: tables, columns, constraints, indexes, types.

The linter applies one statement after another; the rules only read. What no file creates is unknown.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.objects import Constraint, Index, Objects, Table, UserType
from migrations.lint.parser import Name, columns_of, qualified_name, relation_name
from migrations.lint.table_changes import alter, define
from migrations.lint.types import SqlType, sql_type

if TYPE_CHECKING:
    from migrations.lint.objects import Column

_AT = enums.AlterTableType
_KIND = enums.ConstrType
_OBJECT = enums.ObjectType
# PostgreSQL asks whether the zone's only offset from UTC is 0 (TimestampTimestampTzRequiresRewrite in timestamp.c).
_UTC = frozenset(("UTC", "ETC/UTC", "GMT"))
RELATIONS = {_OBJECT.OBJECT_TABLE, _OBJECT.OBJECT_VIEW, _OBJECT.OBJECT_MATVIEW, _OBJECT.OBJECT_FOREIGN_TABLE}
TYPES = {_OBJECT.OBJECT_TYPE, _OBJECT.OBJECT_DOMAIN, _OBJECT.OBJECT_SCHEMA}


class Schema:
    """The schema after the statements that were applied.

    Attributes:
        utc_file: Index of the file that last set the session's time zone to UTC; None after any other zone.
    """

    def __init__(self) -> None:
        self._tables: Objects[Table] = Objects()
        self._indexes: Objects[Table] = Objects()  # the table of each index
        self._types: Objects[UserType] = Objects()
        self._functions: Objects[tuple[int, str]] = Objects()  # the file that creates each, and its volatility
        self._triggers: Objects[int] = Objects()  # the file that creates each, by the name of its table and its own
        self._enum_values: dict[str, int] = {}  # value to the transaction that adds it to an existing enum
        self._gone: set[tuple[Any, str]] = set()  # kind and name of what a statement has dropped
        # Statements are applied in order, so only the latest transaction can still hold locks.
        self._locks: dict[Name, None] = {}
        self._locks_transaction: int | None = None
        self._renamed: dict[tuple[int, str], str] = {}  # file and present name to the name before the file
        self.utc_file: int | None = None

    def table(self, name: Name) -> Table | None:
        """Return a table that a file creates or alters."""
        return self._tables.find(name)

    def is_new(self, name: Name, file: int) -> bool:
        """Return whether a file creates the table."""
        table = self._tables.find(name)
        return table is not None and table.file == file

    def type_is_new(self, name: Name, file: int) -> bool:
        """Return whether a file creates the type, domain or schema."""
        known = self._types.find(name)
        return known is not None and known.file == file

    def function_is_new(self, name: Name, file: int) -> bool:
        """Return whether a file creates the function."""
        known = self._functions.find(name)
        return known is not None and known[0] == file

    def trigger_is_new(self, name: Name, file: int) -> bool:
        """Return whether a file creates the trigger, named `table.trigger`."""
        return self._triggers.find(name) == file

    def type(self, name: Name) -> UserType | None:
        """Return a type that a file creates."""
        return self._types.find(name)

    def column(self, table: Name, column: str) -> Column | None:
        """Return a column that a file adds or changes."""
        known = self._tables.find(table)
        return known.columns.get(column) if known else None

    def column_type(self, table: Name, column: str) -> SqlType | None:
        """Return the type of a column; None where no file shows it."""
        known = self.column(table, column)
        return known.type if known else None

    def base_type(self, kind: SqlType) -> SqlType:
        """Return the type that a domain is over, or the type itself."""
        known = None if kind.array else self._types.find(kind.name)
        return known.base if known and known.base else kind

    def proves_not_null(self, table: Name, column: str, *, by_check: bool = True) -> bool:
        """Return whether the column is NOT NULL, or a valid CHECK proves that it contains no NULL.

        Args:
            table: Its table.
            column: Its name.
            by_check: Whether a CHECK counts, as it does from PostgreSQL 12 on.
        """
        known = self._tables.find(table)
        if known is None:
            return False
        if column in known.columns and known.columns[column].not_null:
            return True
        constraints = known.constraints.values() if by_check else ()
        return any(constraint.valid and column in constraint.not_null for constraint in constraints)

    def unvalidated(self, table: Name, constraint: str) -> Constraint | None:
        """Return a constraint that is not validated yet."""
        known = self._tables.find(table)
        found = known.constraints.get(constraint) if known else None
        return found if found and not found.valid else None

    def table_of_index(self, index: Name) -> Name | None:
        """Return the table of an index; None where no file creates the index."""
        table = self._indexes.find(index)
        return table.name if table else None

    def index(self, index: Name) -> Index | None:
        """Return an index that a file creates."""
        table = self._indexes.find(index)
        return table.indexes.get(index.name) if table else None

    def is_gone(self, kind: Any, name: Name) -> bool:
        """Return whether a statement has dropped the object, and none has created it again."""
        return (_group(kind), name.name) in self._gone

    def name_before(self, name: Name, file: int) -> str:
        """Return the name that a type or table had before a file renamed it."""
        return self._renamed.get((file, name.name), name.name)

    def value_added_in(self, value: str) -> int | None:
        """Return the transaction that adds a value to any enum of an earlier file; a literal does not show its type."""
        return self._enum_values.get(value)

    def adds_values_in(self, transaction: int) -> bool:
        """Return whether a transaction has added a value to an enum of an earlier file."""
        return transaction in self._enum_values.values()

    def volatility(self, function: str) -> str | None:
        """Return `immutable`, `stable` or `volatile`, as CREATE FUNCTION declares it; None where no file does."""
        known = self._functions.find(Name(None, function))
        return known[1] if known else None

    def lock(self, table: Name, transaction: int) -> None:
        """Note that a transaction has locked an existing table against reads or writes."""
        if self._locks_transaction != transaction:
            self._locks, self._locks_transaction = {}, transaction
        self._locks[table] = None

    def locked(self, transaction: int | None) -> Name | None:
        """Return the first existing table that the transaction has locked."""
        held = self._locks if transaction is not None and transaction == self._locks_transaction else {}
        return next(iter(held), None)

    def apply(self, node: Any, file: int, transaction: int | None) -> None:  # noqa: C901, PLR0912 - a table of statements, as patterns
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
                if not (getattr(node, "if_not_exists", False) and self.table(relation_name(created))):
                    self._add_table(Table(relation_name(created), file, filled=True))
            case ast.InsertStmt(selectStmt=ast.SelectStmt(fromClause=(_, *_))):
                if (filled := self.table(relation_name(node.relation))) and filled.file == file:
                    filled.filled = True
            case ast.ViewStmt():
                if self.table(relation_name(node.view)) is None:
                    self._add_table(Table(relation_name(node.view), file))
            case ast.AlterTableStmt():
                self._alter_table(node, transaction)
            case ast.IndexStmt():
                self._create_index(node)
            case ast.RenameStmt():
                self._rename(node, file)
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
                self._add_type(qualified_name(node.typeName), UserType(file))
            case ast.CompositeTypeStmt():
                self._add_type(relation_name(node.typevar), UserType(file))
            case ast.CreateDomainStmt():
                self._add_type(qualified_name(node.domainname), self._domain(node, file))
            case ast.AlterDomainStmt(subtype="C" | "O") if known := self._types.find(qualified_name(node.typeName)):
                known.constrained = True
            case ast.CreateSchemaStmt(schemaname=str(schema)):
                self._add_type(Name(None, schema), UserType(file))
            case ast.AlterEnumStmt(oldVal=None, newVal=str(value)) if transaction is not None:
                if not self.type_is_new(qualified_name(node.typeName), file):
                    self._enum_values[value] = transaction
            case ast.CreateFunctionStmt():
                self._create_function(node, file)
            case ast.CreateTrigStmt(relation=ast.RangeVar(relname=str(table)), trigname=str(trigger)):
                self._triggers[Name(table, trigger)] = file
                self._gone.discard((_OBJECT.OBJECT_TRIGGER, trigger))

    def _create_function(self, node: Any, file: int) -> None:
        declared = [option.arg.sval for option in node.options or () if option.defname == "volatility"]
        name = qualified_name(node.funcname)
        known = self._functions.find(name)
        # OR REPLACE keeps the function of an earlier file, which older images use.
        created_in = known[0] if known and node.replace else file
        self._functions[name] = (created_in, declared[0] if declared else "volatile")
        self._gone.discard((_OBJECT.OBJECT_FUNCTION, name.name))

    def _domain(self, node: Any, file: int) -> UserType:
        over = sql_type(node.typeName)
        below = self._types.find(over.name)
        constraints = {constraint.contype: constraint for constraint in node.constraints or ()}
        own_default = constraints.get(_KIND.CONSTR_DEFAULT)
        return UserType(
            file,
            self.base_type(over),
            constrained=bool({_KIND.CONSTR_CHECK, _KIND.CONSTR_NOTNULL} & constraints.keys())
            or (below is not None and below.constrained),
            default=own_default.raw_expr if own_default else below.default if below else None,
        )

    def _add_type(self, name: Name, kind: UserType) -> None:
        self._types[name] = kind
        self._gone.discard((_OBJECT.OBJECT_TYPE, name.name))

    def _add_table(self, table: Table) -> Table:
        self._tables[table.name] = table
        self._gone.discard((_OBJECT.OBJECT_TABLE, table.name.name))
        return table

    def _create_table(self, node: Any, file: int, transaction: int | None) -> None:
        name = relation_name(node.relation)
        if node.if_not_exists and self.table(name):
            return
        elements = node.tableElts or ()
        table = self._add_table(Table(name, file))
        table.complete = not (
            node.inhRelations or node.ofTypename or any(isinstance(e, ast.TableLikeClause) for e in elements)
        )
        if node.partspec is not None:
            table.partition_key = tuple(part.name for part in node.partspec.partParams or () if part.name)
        if node.partbound is not None:
            for parent in filter(None, map(self.table, map(relation_name, node.inhRelations or ()))):
                table.columns |= {column: replace(known) for column, known in parent.columns.items()}
        define(table, elements, transaction)
        for index in table.indexes:
            self._indexes[Name(name.schema, index)] = table
        if node.partbound is not None and node.partbound.is_default:
            for parent in node.inhRelations or ():
                self._table_or_new(relation_name(parent)).default_partition = name

    def _alter_table(self, node: Any, transaction: int | None) -> None:
        name = relation_name(node.relation)
        if node.objtype == _OBJECT.OBJECT_INDEX:
            return
        table = self._table_or_new(name)
        before = set(table.indexes)
        for command in node.cmds or ():
            alter(table, command, transaction)
            partition = command.def_ if isinstance(command.def_, ast.PartitionCmd) else None
            if partition is None:
                continue
            other = relation_name(partition.name)
            if command.subtype == _AT.AT_AttachPartition and partition.bound and partition.bound.is_default:
                table.default_partition = other
            elif command.subtype == _AT.AT_DetachPartition and table.default_partition == other:
                table.default_partition = None
        for index in table.indexes.keys() - before:
            self._indexes[Name(name.schema, index)] = table
        for index in before - table.indexes.keys():
            self._indexes.remove(Name(name.schema, index))

    def _create_index(self, node: Any) -> None:
        table = self._table_or_new(relation_name(node.relation))
        keys = tuple(param.name for param in node.indexParams or () if param.name)
        expressions = [param.expr for param in node.indexParams or () if param.expr is not None]
        included = {param.name for param in node.indexIncludingParams or () if param.name}
        index = Index(
            keys if not expressions else (),
            bool(expressions) or node.whereClause is not None,
            frozenset(keys) | included | columns_of(expressions) | columns_of(node.whereClause),
            bool(node.unique) and node.whereClause is None and not expressions,
        )
        name = node.idxname or "_".join((table.name.name, *keys, "idx"))
        if node.if_not_exists and name in table.indexes:
            return
        table.indexes[name] = index
        self._indexes[Name(relation_name(node.relation).schema, name)] = table
        self._gone.discard((_OBJECT.OBJECT_INDEX, name))

    def _table_or_new(self, name: Name) -> Table:
        return self.table(name) or self._add_table(Table(name))

    def _rename(self, node: Any, file: int) -> None:
        match node.renameType:
            case kind if kind in RELATIONS:
                self._rename_table(relation_name(node.relation), node.newname, file)
            case _OBJECT.OBJECT_COLUMN if node.relation:
                _rename_column(self._table_or_new(relation_name(node.relation)), node.subname, node.newname)
            case _OBJECT.OBJECT_TABCONSTRAINT:
                table = self._table_or_new(relation_name(node.relation))
                for objects in (table.constraints, table.indexes):
                    if node.subname in objects:
                        objects[node.newname] = objects.pop(node.subname)  # type: ignore[assignment]
            case _OBJECT.OBJECT_INDEX:
                old = relation_name(node.relation)
                renamed = self._indexes.rename(old, node.newname)
                if renamed and old.name in renamed[1].indexes:
                    renamed[1].indexes[node.newname] = renamed[1].indexes.pop(old.name)
            case _OBJECT.OBJECT_TYPE | _OBJECT.OBJECT_DOMAIN if node.object is not None:
                self._rename_type(qualified_name(node.object), node.newname, file)

    def _rename_table(self, old: Name, new: str, file: int) -> None:
        self._table_or_new(old)
        renamed = self._tables.rename(old, new)
        if renamed:
            renamed[1].name = renamed[0]
        self._note_renamed(old.name, new, file)

    def _rename_type(self, old: Name, new: str, file: int) -> None:
        if self._types.find(old) is None:
            self._types[old] = UserType(None)
        self._types.rename(old, new)
        self._note_renamed(old.name, new, file)
        for table in self._tables:
            for column in table.columns.values():
                if column.type and column.type.name.matches(old):
                    column.type = replace(column.type, name=Name(column.type.name.schema, new), node=None)

    def _note_renamed(self, old: str, new: str, file: int) -> None:
        self._renamed[file, new] = self._renamed.pop((file, old), old)

    def _drop(self, node: Any) -> None:
        kind = node.removeType
        for parts in node.objects or ():
            if kind == _OBJECT.OBJECT_TRIGGER:
                self._triggers.remove(Name(parts[-2].sval, parts[-1].sval))
                self._gone.add((kind, parts[-1].sval))
                continue
            if isinstance(parts, ast.ObjectWithArgs):
                name = qualified_name(parts.objname)
            elif isinstance(parts, ast.TypeName | ast.String | tuple):
                name = qualified_name(parts)
            else:
                continue
            self._gone.add((_group(kind), name.name))
            if kind in RELATIONS:
                self._tables.remove(name)
            elif kind == _OBJECT.OBJECT_INDEX:
                if (table := self._indexes.find(name)) is not None:
                    table.indexes.pop(name.name, None)
                self._indexes.remove(name)
            elif kind in TYPES:
                self._types.remove(name)
            else:
                self._functions.remove(name)


def _group(kind: Any) -> Any:
    """Return one kind for the kinds among which a name is looked up together, such as tables and views."""
    if kind in RELATIONS:
        return _OBJECT.OBJECT_TABLE
    if kind in TYPES:
        return _OBJECT.OBJECT_TYPE
    if kind in {_OBJECT.OBJECT_PROCEDURE, _OBJECT.OBJECT_ROUTINE, _OBJECT.OBJECT_AGGREGATE}:
        return _OBJECT.OBJECT_FUNCTION
    return kind


def _rename_column(table: Table, old: str, new: str) -> None:
    if old in table.columns:
        table.columns[new] = table.columns.pop(old)
    for index in table.indexes.values():
        index.keys = tuple(new if key == old else key for key in index.keys)
        index.columns = _renamed(index.columns, old, new)
    for constraint in table.constraints.values():
        constraint.columns = _renamed(constraint.columns, old, new)
        constraint.not_null = _renamed(constraint.not_null, old, new)


def _renamed(columns: frozenset[str], old: str, new: str) -> frozenset[str]:
    return columns - {old} | {new} if old in columns else columns
