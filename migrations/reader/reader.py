"""One ledger, as somebody names it: where it is and what it holds now, read without writing or waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from migrations.dialects import detection
from migrations.dialects.detection import Location, Relation, tables_to_look_up
from migrations.postgres.errors import TableMissing
from migrations.sql.statements import bind, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from migrations.core.ledger import Ledger
    from migrations.dialects.dialect import Dialect
    from migrations.postgres.address import Address
    from migrations.postgres.session import Session

_SQL = load("reading")
READ_TIMEOUT = 30.0
"""Seconds that reading the ledger may take. Who watches has to answer soon; who migrates had better wait for a busy
server, or for whoever has locked the table, than fail."""


@dataclass(frozen=True, slots=True)
class LedgerSource:
    """Name one ledger; equal sources are one ledger read as one role.

    Attributes:
        address: The database.
        dialect: How the ledger is written.
        schema: Where the table is; None for the dialect's default.
        table: Its name; None for the dialect's default.
    """

    address: Address
    dialect: Dialect
    schema: str | None = None
    table: str | None = None


class LedgerReader:
    """Read one ledger again and again over one session: all of it once, then no row until something has changed.

    A reading is one read-only transaction of two short queries at most: where the ledger is and what it holds, or
    whether it has changed and, if so, what it holds now. Where the system columns may not be read (a view, or a role
    that may see some columns only) it is read whole every time.
    """

    def __init__(self, session: Session, source: LedgerSource) -> None:
        self._session = session
        self._source = source
        self._location: Location | None = None
        self._ledger: Ledger | None = None
        self._mark: tuple[object, ...] | None = None

    @property
    def location(self) -> Location | None:
        """Where the ledger was found, or would be; None before the first reading."""
        return self._location

    async def read(self, *, limit: float = 1.0) -> Ledger:
        """Read the ledger; a missing table is an empty one. What has not changed is the same object as before.

        Args:
            limit: Seconds that each query, and its wait for a lock, may take.

        Raises:
            DatabaseError: As `failures` says.
            LedgerUnreadable: The table is none of the dialect's, or a row holds what the dialect never writes.
        """
        async with self._session.read_only(limit):
            try:
                if self._location is None or not self._location.exists:
                    return await self._first()
                return await self._again(self._location)
            except TableMissing:  # dropped between two queries
                self._location = self._mark = None
                self._ledger = self._source.dialect.parse_ledger([])
                return self._ledger

    async def _first(self) -> Ledger:
        location = self._location = await _locate(self._session, self._source)
        if not location.exists:
            self._ledger = location.dialect.parse_ledger([])
            return self._ledger
        statement = location.dialect.read_statement(location.table)
        if location.markable:
            statement = bind(_SQL["marked"], read=statement, mark=_mark(location))
        rows = await self._session.rows(statement)
        self._mark = _mark_of(rows[0]) if location.markable and rows else None
        return self._keep(location, rows)

    async def _again(self, location: Location) -> Ledger:
        mark = None
        if location.markable:
            mark = _mark_of((await self._session.rows(_mark(location)))[0])
            if mark == self._mark and self._ledger is not None and self._ledger.dirty is None:
                return self._ledger
        ledger = self._keep(location, await self._session.rows(location.dialect.read_statement(location.table)))
        self._mark = mark  # only now: who fails to read the rows must read them the next time
        return ledger

    def _keep(self, location: Location, rows: Iterable[Mapping[str, Any]]) -> Ledger:
        ledger = location.dialect.parse_ledger(rows)
        if self._ledger is None or ledger != self._ledger:
            self._ledger = ledger
        return self._ledger


async def read_ledger(session: Session, source: LedgerSource, *, limit: float = 1.0) -> Ledger:
    """Read a ledger once; as `Reader.read`."""
    return await LedgerReader(session, source).read(limit=limit)


async def locate_ledger(session: Session, source: LedgerSource, *, limit: float = 1.0) -> Location:
    """Find out where a ledger is, or would be created, and in which dialect it is written.

    Raises:
        DatabaseError: As `failures` says.
        LedgerUnreadable: The table is none of the dialect's, or more than one dialect's ledger is there.
    """
    async with session.read_only(limit):
        return await _locate(session, source)


async def _locate(session: Session, source: LedgerSource) -> Location:
    tables = tables_to_look_up(source.dialect, source.schema, source.table)
    rows = await session.rows(_SQL["locate"], [schema for schema, _ in tables], [name for _, name in tables])
    relations = [
        Relation(row["asked"], row["schema"], row["name"], frozenset(row["columns"]), row["markable"])
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


def _mark(location: Location) -> str:
    return bind(_SQL["mark"], table=location.table.relation)


def _mark_of(row: Mapping[str, Any]) -> tuple[object, ...]:
    return row["mark_count"], row["mark_sum"], row["mark_newest"]
