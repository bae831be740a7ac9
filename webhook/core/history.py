"""The ledger that a LedgerGate's status remembers. Pure."""

from migrations.core.ledger import History, Ledger, Record, State
from migrations.dialects.catalogue import DIALECTS
from webhook.core.gate import Gate


def recall_ledger(gate: Gate) -> Ledger | None:
    """Return the ledger that ``status.history`` describes; None where that cannot be known.

    The history keeps the newest revisions only, and no failed migration.
    """
    if gate.dialect not in DIALECTS:
        return None
    dialect = DIALECTS[gate.dialect]
    records = [
        Record(revision=revision, state=State.APPLIED, compatible_from=recorded.compatible_from)
        for revision, recorded in gate.history.items()
    ]
    # A tool that records its head alone has left the older heads behind; `Ledger.with_former_heads` adds them again.
    try:
        return dialect.build_ledger(records[-1:] if dialect.history is History.HEADS else records)
    except ValueError:
        return None  # a version of thousands of digits, which only a status that was edited by hand can have
