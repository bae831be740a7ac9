"""Reading one ledger: where it is and what it holds now. Nothing is written, and every wait is bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from migrations.dialects import detection
from migrations.dialects.detection import Location, Relation, tables_to_look_up
from migrations.dialects.dialect import LedgerUnreadable
from migrations.postgres.errors import RowsHidden, TableMissing
from migrations.sql.statements import bind, load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from migrations.core.ledger import Ledger
    from migrations.dialects.dialect import Dialect
    from migrations.postgres.address import Address
    from migrations.postgres.session import Session

_SQL = load("reading")
READ_TIMEOUT = 30.0
"""Seconds that reading a ledger may take for a command that migrates: it had better wait for a busy server, or for a
session that has locked the table, than fail. A watcher has to answer sooner."""


MAX_ROWS = 20_000
"""Rows of a ledger's table. The largest ledgers have some thousands. Parsing this many takes about half a second, in
which the webhook and the controller do nothing else."""
MAX_ROW_BYTES = 16 * 1024
"""Bytes of one row, as text. A revision has at most 512 characters, and of an error 2,000 are read."""
MAX_BYTES = 8 * 1024 * 1024
"""Bytes of all rows together."""


class LedgerTooLarge(LedgerUnreadable):
    """The table has more rows than a ledger can have, or larger ones."""


@dataclass(frozen=True, slots=True)
class LedgerSource:
    """The identity of a ledger. Equal sources are the same ledger, read as the same role.

    Attributes:
        address: The database and the role.
        dialect: How the ledger is written.
        schema: Schema of the table; None for the dialect's default.
        table: Name of the table; None for the dialect's default.
    """

    address: Address
    dialect: Dialect
    schema: str | None = None
    table: str | None = None


class LedgerReader:
    """Repeated reads of one ledger over one session, in which an unchanged ledger costs no rows.

    Each read is one read-only transaction. The first locates the table and reads it with its fingerprint (see
    sql/reading.sql, `mark`): the number of rows, and sum and maximum of their `xmin`, which every insert, update and
    delete changes. A later read fetches the fingerprint, and the rows only when it differs. Where system columns cannot
    be read (a view, or a role that may read some columns only) every read fetches all rows.
    """

    def __init__(self, session: Session, source: LedgerSource) -> None:
        self._session = session
        self._source = source
        self._location: Location | None = None
        self._ledger: Ledger | None = None
        self._fingerprint: tuple[object, ...] | None = None

    @property
    def location(self) -> Location | None:
        """Where the ledger is, or would be created; None before the first read."""
        return self._location

    async def read(self, *, limit: float = 1.0) -> Ledger:
        """Return the ledger; an empty one where the table is missing, the same object as before where nothing changed.

        Args:
            limit: Seconds that each query, and its wait for a lock, may take.

        Raises:
            DatabaseError: The connection was lost, or a query failed.
            RowsHidden: Row-level security hides rows of the table from our role.
            LedgerUnreadable: The table is not a ledger of the dialect, a row holds what the dialect never writes, the
                table is too large for a ledger, or no row was found in what may be a part of the ledger only: a view,
                or a table of the wrong schema.
        """
        try:
            async with self._session.read_only(limit):
                if self._location is None or not self._location.exists:
                    return await self._read_first()
                return await self._read_again(self._location)
        except (TableMissing, RowsHidden) as error:
            # The table was dropped, or has got row-level security, between two queries; or another relation that it
            # reads was (it is a view). Look once more: this raises with the cause, or finds that there is no table.
            self._location = self._fingerprint = None
            async with self._session.read_only(limit):
                location = await _locate(self._session, self._source)
                if not location.exists:
                    return await self._read_missing(location)
                await _refuse_hidden_rows(self._session, location)
            if isinstance(error, RowsHidden):
                raise RowsHidden(
                    f"row-level security hides rows of what {location.table.relation} reads: {error}; "
                    "give the role BYPASSRLS, or the owner of a view"
                ) from error
            raise

    async def _read_first(self) -> Ledger:
        location = await _locate(self._session, self._source)
        if not location.exists:
            return await self._read_missing(location)
        await _refuse_hidden_rows(self._session, location)
        self._location = location
        return await self._read_rows(location)

    async def _read_missing(self, location: Location) -> Ledger:
        """Return an empty ledger for a table that does not exist.

        Raises:
            LedgerUnreadable: The search path has no such table, but another schema has one: the path may be wrong.
        """
        if self._source.schema is None and location.dialect.schema is None and location.table.name:
            columns = sorted(location.dialect.columns)
            rows = await self._session.fetch(_SQL["elsewhere"], location.table.name, columns)
            if rows:
                found = ", ".join(row["schema"] for row in rows)
                raise LedgerUnreadable(
                    f"expected {location.table.name} in a schema of the search path, found it only in {found}; "
                    f"name the schema of the ledger, also where it is {location.table.schema} and has no table yet"
                )
        self._location = location
        self._ledger = location.dialect.parse_ledger([])
        return self._ledger

    async def _read_again(self, location: Location) -> Ledger:
        if location.has_system_columns:
            fingerprint = _fingerprint((await self._session.fetch(_mark_query(location)))[0])
            # A dirty ledger is read whole: some dialects derive `running` from a lock, which is in no row.
            if fingerprint == self._fingerprint and self._ledger is not None and self._ledger.dirty is None:
                return self._ledger
        return await self._read_rows(location)

    async def _read_rows(self, location: Location) -> Ledger:
        rows = await self._session.fetch(
            bind(
                _SQL["ledger"],
                read=location.dialect.read_statement(location.table),
                mark=_mark_query(location),
                max_rows=str(MAX_ROWS),
                max_row_bytes=str(MAX_ROW_BYTES),
                max_bytes=str(MAX_BYTES),
            )
        )
        _check_size(location, rows[0])
        records = [row for row in rows if row["mark_place"] is not None]
        if not records:
            await _refuse_partial(self._session, location)
        ledger = location.dialect.parse_ledger(records)
        if self._ledger is None or ledger != self._ledger:
            self._ledger = ledger
        # Not before the rows were parsed: a failed read must be repeated.
        self._fingerprint = _fingerprint(rows[0]) if location.has_system_columns else None
        return self._ledger


async def read_ledger(session: Session, source: LedgerSource, *, limit: float = READ_TIMEOUT) -> Ledger:
    """Read a ledger once; see `LedgerReader.read`."""
    return await LedgerReader(session, source).read(limit=limit)


async def locate_ledger(session: Session, source: LedgerSource, *, limit: float = 1.0) -> Location:
    """Return where a ledger is, or would be created, and in which dialect it is written.

    Args:
        session: A session with its database.
        source: The ledger; its dialect may be `auto`.
        limit: Seconds that each query may take.

    Raises:
        DatabaseError: The connection was lost, or a query failed.
        LedgerUnreadable: The table is not a ledger of the dialect, or there are ledgers of several dialects.
    """
    async with session.read_only(limit):
        return await _locate(session, source)


async def _refuse_hidden_rows(session: Session, location: Location) -> None:
    """Raise RowsHidden where row-level security would hide rows of the ledger: they would seem not to be applied."""
    if not location.has_row_security:
        return
    from migrations.dialects.row_security import RowSecurity  # noqa: PLC0415 - few ledgers have it, and starts are timed

    table = location.table
    row = (await session.fetch(_SQL["row_security"], table.relation))[0]
    security = RowSecurity(row["role"], tuple(row["policies"]), row["is_owner"])
    cause = security.describe_cause(table)
    raise RowsHidden(
        f"{cause} hides rows of the ledger from the role {security.role}: {security.describe_remedy(table)}",
        cause=cause,
    )


async def _refuse_partial(session: Session, location: Location) -> None:
    """Raise LedgerUnreadable where a relation without rows may be a part of the ledger only."""
    kind = location.partial_kind
    if not kind and await session.fetch_value(_SQL["is_child"], location.table.relation):
        kind = "an inheritance child"
    if kind:
        raise LedgerUnreadable(
            f"{location.table.schema}.{location.table.name} is {kind} and shows no row, which "
            "does not prove that the ledger is empty; name the table itself as the ledger"
        )


async def _locate(session: Session, source: LedgerSource) -> Location:
    tables = tables_to_look_up(source.dialect, source.schema, source.table)
    rows = await session.fetch(_SQL["locate"], [schema for schema, _ in tables], [name for _, name in tables])
    relations = [
        Relation(
            row["requested_schema"],
            row["schema"],
            row["name"],
            frozenset(row["columns"]),
            row["has_system_columns"],
            row["has_row_security"],
            row["partial_kind"] or "",
        )
        for row in rows
        if row["name"] is not None
    ]
    return detection.locate(
        source.dialect,
        source.schema,
        source.table,
        relations,
        database=rows[0]["database"],
        current_schema=rows[0]["current_schema"],
    )


def _check_size(location: Location, row: Mapping[str, Any]) -> None:
    """Raise LedgerTooLarge where the table is too large for a ledger.

    Args:
        row: Any row of the block `ledger`.
    """
    table = f"{location.table.schema}.{location.table.name}"
    if row["mark_count"] > MAX_ROWS:
        raise LedgerTooLarge(f"{table} is too large for a ledger: it has more than {MAX_ROWS:,} rows")
    if row["mark_widest"] > MAX_ROW_BYTES:
        limit = f"{MAX_ROW_BYTES // 1024} KiB"
        raise LedgerTooLarge(f"{table} is no ledger: a row has {row['mark_widest']:,} bytes, expected at most {limit}")
    if row["mark_bytes"] > MAX_BYTES:
        limit = f"{MAX_BYTES // 1024**2} MiB"
        raise LedgerTooLarge(
            f"{table} is too large for a ledger: {row['mark_bytes']:,} bytes, expected at most {limit}"
        )


def _mark_query(location: Location) -> str:
    block = "mark" if location.has_system_columns else "count"
    return bind(_SQL[block], table=location.table.relation, max_rows=str(MAX_ROWS))


def _fingerprint(row: Mapping[str, Any]) -> tuple[object, ...]:
    return row["mark_count"], row["mark_sum"], row["mark_newest"]
