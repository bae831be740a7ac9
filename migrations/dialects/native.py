"""The ledger and the files of `ledgergate migrate`.

`migrate up` imports this module and no other dialect: its start-up time counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrations.core.ledger import Record, State
from migrations.core.revision import canonical
from migrations.dialects.dialect import Dialect
from migrations.files import native

if TYPE_CHECKING:
    from collections.abc import Mapping


def _parse(row: Mapping[str, Any]) -> Record:
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
    parse=_parse,
    directory=native.list_revisions,
    programs=(),  # `migrate exec` runs other tools
)
