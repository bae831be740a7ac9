"""The objects of a schema: tables with their columns, indexes and constraints, domains, and a map from their names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from migrations.lint.parser import Name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from migrations.lint.types import SqlType

T = TypeVar("T")


@dataclass(slots=True)
class Constraint:
    """A constraint of a kind that VALIDATE CONSTRAINT takes: CHECK, NOT NULL or FOREIGN KEY.

    Attributes:
        transaction: Number of the transaction that added it; None where the statement committed by itself.
        valid: Whether every row satisfies it: it was added without NOT VALID, or has been validated.
        not_null: Columns that contain no NULL in a row that satisfies it.
        references: The other table of a foreign key; None for any other constraint.
        columns: Columns that it depends on.
        expression: Parse tree of a CHECK; None for any other constraint.
    """

    transaction: int | None
    valid: bool
    not_null: frozenset[str] = frozenset()
    references: Name | None = None
    columns: frozenset[str] = frozenset()
    expression: Any = None


@dataclass(slots=True)
class Index:
    """An index, or the one behind a UNIQUE or PRIMARY KEY.

    Attributes:
        keys: The plain columns of its key.
        computed: Whether it has an expression or a predicate, so that PostgreSQL builds it again when the type of one
            of its columns changes.
        columns: Every column that it depends on.
        unique: Whether no two rows have the same key: UNIQUE without a predicate.
    """

    keys: tuple[str, ...]
    computed: bool
    columns: frozenset[str]
    unique: bool


@dataclass(slots=True)
class Column:
    """A column of a table.

    Attributes:
        type: Its type; None where no file shows it.
        not_null: Whether it is known to be NOT NULL.
        has_default: Whether it is known to have a default, or to be an identity or generated column.
    """

    type: SqlType | None = None
    not_null: bool = False
    has_default: bool = False


@dataclass(slots=True)
class Table:
    """A table, a view or a materialized view.

    Attributes:
        name: Its present name.
        file: Index of the file that creates it; None where no file does.
        complete: Whether `columns` has all its columns.
        partition_key: Columns of the key of a partitioned table; None where it is not partitioned.
        default_partition: Name of its default partition.
        columns: Columns by name.
        constraints: Constraints by name.
        indexes: Indexes by name.
        filled: Whether a statement of the file that creates it fills it from other tables.
    """

    name: Name
    file: int | None = None
    complete: bool = False
    partition_key: tuple[str, ...] | None = None
    default_partition: Name | None = None
    columns: dict[str, Column] = field(default_factory=dict)
    constraints: dict[str, Constraint] = field(default_factory=dict)
    indexes: dict[str, Index] = field(default_factory=dict)
    filled: bool = False

    def column(self, name: str) -> Column:
        """Return a column, which is added where no file shows it."""
        return self.columns.setdefault(name, Column())

    def is_unique(self, column: str) -> bool:
        """Return whether a unique index on the column alone is known."""
        return any(index.unique and index.keys == (column,) for index in self.indexes.values())

    def ensures_unique(self, columns: Iterable[str], *, without: str = "") -> bool:
        """Return whether a unique index on some of these columns is known, so that no two rows have the same values.

        Args:
            columns: Names of the columns.
            without: Name of an index that does not count.
        """
        wanted = set(columns)
        found = (index for name, index in self.indexes.items() if name != without and index.unique and index.keys)
        return any(wanted.issuperset(index.keys) for index in found)

    def refuses_null(self, column: str) -> bool:
        """Return whether no row can be written with NULL in a column; a CHECK that is NOT VALID ensures that too."""
        known = self.columns.get(column)
        if known is not None and known.not_null:
            return True
        return any(column in constraint.not_null for constraint in self.constraints.values())


@dataclass(slots=True)
class UserType:
    """A type, domain or schema.

    Attributes:
        file: Index of the file that creates it; None where no file does.
        base: For a domain, the type that it is over; None for anything else.
        constrained: Whether it is a domain with a CHECK or NOT NULL of its own or of a domain below it.
        default: For a domain, the parse tree of its default.
    """

    file: int | None
    base: SqlType | None = None
    constrained: bool = False
    default: Any = None


class Objects(Generic[T]):
    """Objects of one kind by name. A name without a schema matches the same name in any schema, and vice versa."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[Name, T]] = {}

    def __setitem__(self, name: Name, value: T) -> None:
        self._by_name.setdefault(name.name, {})[name] = value

    def __iter__(self) -> Iterator[T]:
        for same in self._by_name.values():
            yield from same.values()

    def find(self, name: Name) -> T | None:
        """Return the object that a name may mean."""
        key = self.key(name)
        return None if key is None else self._by_name[key.name][key]

    def key(self, name: Name) -> Name | None:
        """Return the name under which the object is kept; None where a name may mean none of them."""
        same = self._by_name.get(name.name, {})
        return name if name in same else next((key for key in same if key.matches(name)), None)

    def remove(self, name: Name) -> None:
        """Forget every object that the name may mean."""
        same = self._by_name.get(name.name, {})
        for key in [key for key in same if key.matches(name)]:
            del same[key]

    def rename(self, old: Name, new: str) -> tuple[Name, T] | None:
        """Rename an object within its schema; return the new name and the object, None where it is unknown."""
        key = self.key(old)
        if key is None:
            return None
        value = self._by_name[key.name].pop(key)
        renamed = Name(key.schema, new)
        self[renamed] = value
        return renamed, value
