"""`resolve`: settles a revision that failed, or whose run was killed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from migrations.core.ledger import State
from migrations.core.revision import spellings
from migrations.reader.reader import read_ledger
from migrations.runner.ledger_writer import LedgerWriter
from migrations.runner.locked_session import run_under_lock

if TYPE_CHECKING:
    from migrations.core.ledger import Ledger, Record
    from migrations.postgres.session import Session
    from migrations.runner.reporter import Reporter
    from migrations.runner.run import LockNotAcquired, RunOptions

_LOCK_WAIT_TIMEOUT = 10.0
"""Seconds to wait for our advisory lock: enough for a session that holds it briefly, too little for a run to end. A run
that is alive must be reported, not waited for."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The ledger records the revision as requested.

    Attributes:
        changed: Whether the ledger was written; it may have recorded that already.
        checksum_renewed: Whether the record now has the checksum of the file, which differs from the recorded one.
    """

    changed: bool
    checksum_renewed: bool = False


@dataclass(frozen=True, slots=True)
class NotDirty:
    """The revision is not dirty, so there is nothing to settle.

    Attributes:
        reason: What the ledger records of the revision, and which revisions are dirty.
    """

    reason: str


async def resolve(
    run: RunOptions, reporter: Reporter, revision: str, state: State | None
) -> Resolved | NotDirty | LockNotAcquired:
    """Settle a revision that failed, or whose run was killed. The acquired lock proves that its run has ended.

    Args:
        run: The ledger; the file of the revision, where it exists, gives the record its checksum.
        reporter: Reports who holds the lock.
        revision: Canonical name.
        state: APPLIED where it was completed by hand, None where it was undone by hand.

    Raises:
        DatabaseError: The database cannot be reached in time, or cannot be used.
    """

    async def work(session: Session) -> Resolved | NotDirty:
        ledger = await read_ledger(session, run.source)
        record = next((record for record in ledger.records if record.revision == revision), None)
        checksum = next((m.checksum for m in run.migrations if m.revision == revision), None)
        if record is None or record.state is State.APPLIED:
            already = state is State.APPLIED if record else state is None and checksum is not None
            return Resolved(changed=False) if already else NotDirty(_describe(ledger, revision, record))
        writer = LedgerWriter.for_run(run, batch=0)
        if state is None:
            await session.fetch(writer.statement("remove"), spellings(revision))
            return Resolved(changed=True)
        await session.fetch(writer.statement("settle"), spellings(revision), checksum)
        return Resolved(changed=True, checksum_renewed=checksum not in {None, record.checksum})

    impatient = replace(run, lock_wait_timeout=min(run.lock_wait_timeout, _LOCK_WAIT_TIMEOUT))
    return await run_under_lock(impatient, reporter, work)


def _describe(ledger: Ledger, revision: str, record: Record | None) -> str:
    actual = f"{revision} is applied" if record else f"the ledger has no {revision}"
    dirty = [record.revision for record in ledger.records if record.state is not State.APPLIED]
    others = f"dirty is {', '.join(dirty)}" if dirty else "nothing in the ledger is dirty"
    return f"expected a revision that failed or never ended, but {actual}; {others}"
