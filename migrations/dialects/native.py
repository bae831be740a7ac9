"""Our own ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrations.core.ledger import Record, State
from migrations.core.revision import canonical
from migrations.dialects.dialect import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping


def _record(row: Mapping[str, Any]) -> Record:
    return Record(
        revision=canonical(row["revision"]),
        state=State(row["state"]),
        checksum=row["checksum"],
        batch=row["batch"],
        compatible_from=row["compatible_from"],
        error=row["error"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        duration_ms=row["duration_ms"],
        applied_by=row["applied_by"],
    )


NATIVE = Dialect(
    name="ledgergate",
    schema="public",
    table="ledgergate_migrations",
    columns=frozenset({"revision", "checksum", "batch", "state", "applied_by", "compatible_from", "error"}),
    record=_record,
)
DIALECTS = (NATIVE,)
