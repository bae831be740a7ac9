"""What is to be known of a migration tool's ledger.

LookupError
└── DialectError    a dialect that nobody has described
ValueError
└── LedgerUnreadable    a table that is none of the dialect's, or several that could be
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from migrations.core.ledger import History, Ledger, Record
from migrations.core.revision import Revision, canonical, declare, digest_of
from migrations.core.versioning import Versioning
from migrations.sql.statements import bind, literal, load, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


class DialectError(LookupError):
    """A dialect that nobody has described; the message lists those that somebody has."""


class LedgerUnreadable(ValueError):  # noqa: N818 - says what happened
    """The table holds what the dialect never writes; the message says what, and names no host."""


@dataclass(frozen=True, slots=True)
class LedgerTable:
    """Where a ledger is, or would be created.

    Attributes:
        database: Its database's name, for the tools whose lock depends on it.
        schema: Of the table.
        table: Its name.
    """

    database: str
    schema: str
    table: str

    @property
    def relation(self) -> str:
        """The quoted, qualified name of the table."""
        return quoted(self.schema, self.table)


@dataclass(frozen=True, slots=True)
class LockTable:
    """A table beside the ledger whose row is the tool's lock: a process that is killed leaves it behind.

    The dialect's .sql file has two more blocks, in which `{lock}` stands for this table. `lock` gives one row with
    `holder` (text or null) and `since` (timestamptz or null) while the lock is taken, and none while it is free.
    `unlock` frees it as the tool's own command does.

    Attributes:
        name: Of the table; `{table}` stands for the ledger's name.
        by_hand: How the tool's users free it.
    """

    name: str
    by_hand: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """Describe the ledger of one tool.

    Attributes:
        name: As users write it in a gate's `spec.ledger.dialect`; its statements are in `sql/NAME.sql`, where the block
            `read` gives every record, `{table}` stands for the table and `{held}` for whether one of `keys` is locked.
        table: What the tool calls the table unless told otherwise.
        columns: Those that the table must have.
        record: Makes a record of one row of `read`.
        schema: Where the tool puts the table unless told otherwise; None for the search path's first that has it.
        without: Columns that a namesake has, and this one never.
        beside: Tables that the tool creates in the same schema, where its own columns do not tell it from a namesake.
        apart: Tables that a namesake creates there.
        history: What the tool keeps of what it has applied, and in which order `read` gives it.
        naming: When a declared revision and a recorded one are the same.
        keys: Of the advisory lock under which the tool runs, all that it may have; none where it takes none, or one
            that cannot be known.
        row_lock: The lock that a killed process leaves behind; None where there is none.
    """

    name: str
    table: str
    columns: frozenset[str]
    record: Callable[[Mapping[str, Any]], Record]
    schema: str | None = None
    without: frozenset[str] = frozenset()
    beside: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    history: History = History.NAMES
    versioning: Versioning = Versioning.NAME
    keys: Callable[[LedgerTable], Sequence[int]] = lambda _place: ()
    row_lock: LockTable | None = None

    def candidates(self) -> Sequence[Dialect]:
        """Give the dialects that the ledger may be written in: this one."""
        return (self,)

    def relation(self, schema: str | None = None, table: str | None = None) -> str:
        """Give the quoted name of the table, with the tool's defaults for what is None."""
        return quoted(schema or self.schema, table or self.table)

    def select(self, place: LedgerTable) -> str:
        """Give the statement that reads the ledger, oldest record first."""
        held = bind(_statements("reading")["held"], keys=", ".join(map(literal, self.keys(place))))
        return bind(_statements(self.name)["read"], table=place.relation, held=held)

    def read_lock(self, place: LedgerTable) -> str | None:
        """Give the statement that tells who has taken the row lock, see `LockTable`; None where the tool has none."""
        return self._on_lock("lock", place)

    def clear_lock(self, place: LedgerTable) -> str | None:
        """Give the statement that frees the row lock; None where the tool has none."""
        return self._on_lock("unlock", place)

    def lock_table(self, place: LedgerTable) -> str | None:
        """Give the quoted, qualified name of the row lock's table; None where the tool has none."""
        return None if self.row_lock is None else quoted(place.schema, bind(self.row_lock.name, table=place.table))

    def ledger(self, rows: Iterable[Mapping[str, Any]]) -> Ledger:
        """Make the ledger of the rows of `select`.

        Raises:
            LedgerUnreadable: A row holds what the tool never writes.
        """
        try:
            return self.ledger_of([self.record(row) for row in rows])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LedgerUnreadable(f"the table is no {self.name} ledger: {error}") from error

    def ledger_of(self, records: Iterable[Record]) -> Ledger:
        """Make a ledger of records; their order counts only where it is not that of their names."""
        if self.history is History.NAMES:
            records = sorted(records, key=lambda record: self.versioning.sort_key(record.revision))
        return Ledger.of(records, self.history, self.versioning)

    def declare(self, names: Sequence[str]) -> Revision:
        """Give the revision that an image with these migrations expects, as this kind of ledger can confirm it.

        Args:
            names: Every migration of the image as its files or the tool name them; where the ledger is one of
                `History.NAMES` their order does not count, else the last one is the newest.

        Raises:
            RevisionError: There is none.
        """
        keys = list(dict.fromkeys(self.versioning.key(canonical(name)) for name in names))
        match self.history:
            case History.NAMES:
                return declare(sorted(keys, key=self.versioning.sort_key))
            case History.EXECUTION:
                return Revision(declare(keys).name, len(keys), digest_of(sorted(keys)))
            case History.NUMBER | History.HEADS:
                return Revision(declare(keys).name)

    def _on_lock(self, block: str, place: LedgerTable) -> str | None:
        table = self.lock_table(place)
        return table and bind(_statements(self.name)[block], lock=table)


@cache
def _statements(file: str) -> Mapping[str, str]:
    return load(file)
