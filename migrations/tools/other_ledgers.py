"""Finding other ledgers of the same tool, to notice that the tool wrote another table than the flags name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations.postgres.errors import StatementFailed
from migrations.sql.statements import bind, load, quoted

if TYPE_CHECKING:
    from migrations.dialects.detection import Location
    from migrations.postgres.session import Session

_SQL = load("other_ledgers")
_EXTRA_COLUMNS = 3
"""Columns that a ledger may have beside those that its dialect needs."""

Fingerprints = dict[str, tuple[object, ...]]
"""For each table, by its quoted name: values that change with every commit that changes the table."""


async def read_fingerprints(session: Session, location: Location) -> Fingerprints:
    """Return a fingerprint of each table that has the columns of the tool's ledger, this one among them.

    Tables that our role may not read are left out. Where a table vanishes meanwhile, nothing is returned.

    Raises:
        DatabaseError: The connection was lost.
    """
    columns = location.dialect.columns
    extra = _EXTRA_COLUMNS if len(columns) > 1 else 0  # many tables have a column `name` among others
    try:
        rows = await session.fetch(_SQL["candidates"], sorted(columns), len(columns) + extra)
        names = [quoted(row["schema"], row["name"]) for row in rows]
        return {name: tuple((await session.fetch(bind(_SQL["fingerprint"], table=name)))[0].values()) for name in names}
    except StatementFailed:
        return {}


def changed_elsewhere(location: Location, before: Fingerprints, after: Fingerprints) -> str | None:
    """Return the quoted name of another ledger that was written; None if there is none.

    Args:
        location: The ledger that was read, and is empty.
        before: Fingerprints from before the command.
        after: Fingerprints from after it.
    """
    changed = {name for name, fingerprint in after.items() if before.get(name) != fingerprint}
    return min(changed - {location.table.relation}, default=None)
