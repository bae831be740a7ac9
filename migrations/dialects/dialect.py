"""What there is to know about a migration tool: its ledger, its lock, its directory of migrations and its programs.

LookupError
└── DialectError    a name that no dialect has
ValueError
└── LedgerUnreadable    a table that is not a ledger of the dialect, or several tables that could be the ledger
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from migrations.core.ledger import History, Ledger, Record
from migrations.core.revision import LEAF_SEPARATOR, Revision, canonical, composed, declare, digest_of
from migrations.core.text import MAX_ERROR, clean
from migrations.core.versioning import Versioning
from migrations.sql.statements import bind, literal, load, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from migrations.files.external import DirectoryLister


class DialectError(LookupError):
    """A name that no dialect has; the message lists the known ones."""


class LedgerUnreadable(ValueError):  # noqa: N818 - named after what happened
    """The table holds what the dialect never writes; the message describes it without a host name."""


@dataclass(frozen=True, slots=True)
class LedgerTable:
    """The table of a ledger, which may not exist yet.

    Attributes:
        database: Name of its database; some tools derive the key of their lock from it.
        schema: Name of its schema.
        name: Its own name.
    """

    database: str
    schema: str
    name: str

    @property
    def relation(self) -> str:
        """The quoted, qualified name."""
        return quoted(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class LockTable:
    """A table beside the ledger in which a row is the tool's lock, so that a killed process leaves the lock behind.

    The dialect's .sql file has two more blocks, in which `{lock}` stands for this table. `lock` returns one row while
    the lock is taken, and no row while it is free. The row has `holder` (text or null), `since` (timestamptz or null)
    and `version`: the row's `xmin` as text, the transaction that wrote it. `unlock` frees the lock as the tool's own
    command does.

    Attributes:
        name: Name of the table, in the ledger's schema; `{table}` stands for the ledger's name.
        unlock_command: The tool's command that frees the lock.
    """

    name: str
    unlock_command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """All that is specific to one migration tool, beside the statements in `sql/NAME.sql`.

    The block `read` of that file selects every record. In it `{table}` stands for the table, and `{held}` for whether
    one of `lock_keys` is locked.

    Attributes:
        name: The value of a gate's `spec.ledger.dialect` and of `--dialect`.
        aliases: Other names that users may know the tool by.
        table: The tool's default name of the table.
        schema: The tool's default schema of the table; None for the first of the search path that has the table.
        columns: Columns that the table must have.
        absent_columns: Columns that another tool's table of the same name has, and this tool's never has.
        companion_tables: Tables that the tool also creates in the schema, needed where columns do not distinguish
            the ledger from another tool's table of the same name.
        absent_tables: Tables that only the other tool creates there.
        parse: Makes a record of one row that `read` selected.
        history: How much the tool keeps of what it has applied, and in which order `read` returns it.
        versioning: What makes a declared revision and a recorded one the same.
        branch: Returns the branch of a name, such as its application, for a tool without a single newest migration: an
            image then declares the newest of each branch. None for other tools.
        lock_keys: Every key that the tool's advisory lock on this ledger may have; empty where the tool takes no
            advisory lock, or one with a key that cannot be known.
        row_lock: The lock that a killed process leaves behind; None where there is no such lock.
        directory: Lists the migrations of a directory, oldest first; raises where the files do not name them.
        by_extensions: Makes a `directory` for the extensions that the tool is configured to load; None where they are
            fixed.
        optional_extensions: Extensions that the tool loads only if it is configured to.
        programs: Names of the programs that start the tool.
    """

    name: str
    aliases: tuple[str, ...] = ()
    table: str
    schema: str | None = None
    columns: frozenset[str]
    absent_columns: frozenset[str] = frozenset()
    companion_tables: frozenset[str] = frozenset()
    absent_tables: frozenset[str] = frozenset()
    parse: Callable[[Mapping[str, Any]], Record]
    history: History = History.NAMES
    versioning: Versioning = Versioning.NAME
    branch: Callable[[str], str] | None = None
    lock_keys: Callable[[LedgerTable], Sequence[int]] = lambda _table: ()
    row_lock: LockTable | None = None
    # No defaults: the description of a tool without a directory or a program has to state that.
    directory: DirectoryLister
    by_extensions: Callable[[Sequence[str]], DirectoryLister] | None = None
    optional_extensions: tuple[str, ...] = ()
    programs: tuple[str, ...]

    def candidates(self) -> Sequence[Dialect]:
        """Return the dialects in which the ledger may be written: this one."""
        return (self,)

    def relation(self, schema: str | None = None, table: str | None = None) -> str:
        """Return the quoted name of the table, with the tool's defaults for what is None."""
        return quoted(schema or self.schema, table or self.table)

    def read_statement(self, table: LedgerTable) -> str:
        """Return the statement that reads the ledger, oldest record first."""
        held = bind(_statements("reading")["held"], keys=", ".join(map(literal, self.lock_keys(table))))
        return bind(_statements(self.name)["read"], table=table.relation, held=held)

    def read_lock_statement(self, table: LedgerTable) -> str | None:
        """Return the statement that reads who holds the row lock, see `LockTable`; None where the tool has none."""
        return self._lock_statement("lock", table)

    def unlock_statement(self, table: LedgerTable) -> str | None:
        """Return the statement that frees the row lock; None where the tool has none."""
        return self._lock_statement("unlock", table)

    def lock_relation(self, table: LedgerTable) -> str | None:
        """Return the quoted, qualified name of the row lock's table; None where the tool has none."""
        return None if self.row_lock is None else quoted(table.schema, bind(self.row_lock.name, table=table.name))

    def parse_ledger(self, rows: Iterable[Mapping[str, Any]]) -> Ledger:
        """Make a ledger of the rows that `read_statement` selected; its texts are clean, so that each can be shown.

        Raises:
            LedgerUnreadable: A row holds what the tool never writes.
        """
        try:
            return self.build_ledger([_cleaned(self.parse(row)) for row in rows])
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise LedgerUnreadable(f"the table is no {self.name} ledger: {error}") from error

    def build_ledger(self, records: Iterable[Record]) -> Ledger:
        """Make a ledger of records, sorted by name where the tool runs them in that order; else in the order given."""
        if self.history is History.NAMES:
            records = sorted(records, key=lambda record: self.versioning.sort_key(record.revision))
        return Ledger.of(records, self.history, self.versioning)

    def declare(self, names: Sequence[str]) -> Revision:
        """Return the revision that an image with these migrations expects, in the form that such a ledger can confirm.

        Args:
            names: Every migration of the image, named as in its files or by the tool. Their order counts unless the
                ledger's history is one of names; the last one is the newest.

        Raises:
            RevisionError: There are none, or so many branches that their names are too long.
        """
        keys = list(dict.fromkeys(self.versioning.key(canonical(name)) for name in names))
        match self.history:
            case History.NAMES:
                return declare(sorted(keys, key=self.versioning.sort_key))
            case History.EXECUTION:  # the database may have run them in another order: the digest is over the set
                return Revision(self._newest(keys), len(keys), digest_of(sorted(keys)))
            case History.NUMBER | History.HEADS:  # the ledger could confirm neither a count nor a digest
                return Revision(declare(keys).name)

    def find_elsewhere(self, known: Sequence[str]) -> Callable[[str], bool]:
        """Return the function that decides whether a recorded revision may have its file in another directory.

        Without a directory every revision may. With one, only a revision of a branch that has no file in it may, such
        as a Django application that is installed as a package.

        Args:
            known: Every migration of the directory.
        """
        if self.branch is None or not known:
            return lambda _revision: not known
        branch = self.branch
        branches = set(map(branch, known))
        return lambda revision: branch(revision) not in branches

    def _newest(self, keys: Sequence[str]) -> str:
        """Return the newest name; for a tool with branches the newest of each, joined."""
        newest = declare(keys).name
        if self.branch is None:
            return newest
        leaves = {self.branch(key): key for key in keys}
        return Revision.parse(LEAF_SEPARATOR.join(sorted(leaves.values()))).name

    def _lock_statement(self, block: str, table: LedgerTable) -> str | None:
        relation = self.lock_relation(table)
        return relation and bind(_statements(self.name)[block], lock=relation)


@cache
def _statements(file: str) -> Mapping[str, str]:
    return load(file)


def _cleaned(record: Record) -> Record:
    """Return a record whose texts can be shown: any writer of the table may have chosen them.

    No image expects a revision with characters that are replaced here (see `Revision.parse`).
    """
    revision, error, author = record.revision, record.error, record.applied_by
    if not revision.isascii():
        revision = composed(revision)
    shown = clean(revision), error and clean(_cut(error), lines=True), author and clean(_cut(author))
    if shown == (record.revision, error, author):
        return record
    return replace(record, revision=shown[0], error=shown[1], applied_by=shown[2])


def _cut(text: str) -> str:
    # Unlike `shorten`, without the length: some statements have cut the text already.
    return text if len(text) <= MAX_ERROR else f"{text[:MAX_ERROR]}…"
