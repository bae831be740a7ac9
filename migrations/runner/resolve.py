"""Carries out `resolve`: settles a revision that failed, or whose run was killed, under the lock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from migrations.core.ledger import State
from migrations.reader.reader import read_ledger
from migrations.runner.ledger_writer import ledger_writer
from migrations.runner.locked_session import run_under_lock

if TYPE_CHECKING:
    from migrations.core.ledger import Ledger, Record
    from migrations.postgres.session import Session
    from migrations.runner.run import LockTimeout, Reporter, RunOptions

LOCK_TIMEOUT = 10.0
"""Seconds for which `resolve` tries to get the lock: long enough for others that only look in, too short for a run."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The revision is as was said.

    Attributes:
        changed: Whether the ledger was written; it may have said so already.
        checksum_renewed: Whether the record now has the sum of the file here, which is another than the one recorded.
    """

    changed: bool
    checksum_renewed: bool = False


@dataclass(frozen=True, slots=True)
class NotDirty:
    """There is nothing to settle.

    Attributes:
        reason: What the ledger says of the revision, and which one it could be.
    """

    reason: str


async def resolve(
    run: RunOptions, report: Reporter, revision: str, state: State | None
) -> Resolved | NotDirty | LockTimeout:
    """Settle a revision that failed, or whose run was killed; its run is dead when the lock can be had.

    Args:
        job: The ledger; the file of the revision, where there is one, gives the record its checksum.
        report: Told who is waited for.
        revision: Canonical name.
        state: APPLIED: it was completed by hand. None: it was undone by hand.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """

    async def work(session: Session) -> Resolved | NotDirty:
        ledger = await read_ledger(session, run.source)
        record = next((record for record in ledger.records if record.revision == revision), None)
        checksum = next((m.checksum for m in run.migrations if m.revision == revision), None)
        if record is None or record.state is State.APPLIED:
            settled = state is State.APPLIED if record else state is None and checksum is not None
            return Resolved(changed=False) if settled else NotDirty(_nothing_to_resolve(ledger, revision, record))
        writer = ledger_writer(run, batch=0)
        if state is None:
            await session.rows(writer.sql("remove"), revision)
            return Resolved(changed=True)
        await session.rows(writer.sql("settle"), revision, checksum)
        return Resolved(changed=True, checksum_renewed=checksum not in {None, record.checksum})

    patient = replace(run, lock_wait_timeout=min(run.lock_wait_timeout, LOCK_TIMEOUT))
    return await run_under_lock(patient, report, work)


def _nothing_to_resolve(ledger: Ledger, revision: str, record: Record | None) -> str:
    there = f"{revision} is applied" if record else f"the ledger has no {revision}"
    dirty = [record.revision for record in ledger.records if record.state is not State.APPLIED]
    which = f"dirty is {', '.join(dirty)}" if dirty else "nothing in the ledger is dirty"
    return f"expected a revision that failed or never ended, but {there}; {which}"
