"""`baseline` and `resolve`: what corrects the ledger and leaves the rest of the database alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations.invocation import Exit, Options, perform, unsuccessful, unusable
from migrations.ledger import State
from migrations.revision import Revision

if TYPE_CHECKING:
    from migrations.report import Report
    from migrations.runner import Job


def baseline(options: Options, report: Report, *, to: str | None, from_dialect: str | None) -> int:
    """Record revisions as applied without running them."""
    if from_dialect is not None:
        return unusable(report, _foreign(from_dialect))

    async def work(job: Job) -> int:
        from migrations import settling  # noqa: PLC0415 - the driver
        from migrations.plan import Baseline  # noqa: PLC0415

        outcome = await settling.baseline(job, report)
        if not isinstance(outcome, Baseline):
            return unsuccessful(report, job, outcome)
        for migration in outcome.steps:
            report.say("recorded", f"recorded {migration.revision}, which was not run", revision=migration.revision)
        if outcome.steps:
            report.say("done", f"done: recorded {len(outcome.steps)} as applied", recorded=len(outcome.steps))
        else:
            report.say("nothing_to_do", "nothing to do: the ledger holds all of it")
        return Exit.DONE

    return perform(options, report, work, to=to)


def _foreign(name: str) -> Exception:
    """Refuse a ledger that cannot be taken over, naming those that can."""
    from migrations.dialects import DIALECTS, NATIVE  # noqa: PLC0415 - only here

    known = ", ".join(sorted(set(DIALECTS) - {NATIVE.name})) or "none yet"
    return ValueError(
        f"expected --from to name another tool's ledger that can be taken over ({known}), got {name!r}; "
        "name the last revision that is in the database with --to instead"
    )


def resolve(options: Options, report: Report, revision: str, *, applied: bool, rolled_back: bool) -> int:
    """Settle a revision that is neither applied nor undone."""
    if applied is rolled_back:
        given = "both" if applied else "neither"
        return unusable(report, ValueError(f"expected one of --applied and --rolled-back, got {given}"))

    async def work(job: Job) -> int:
        from migrations import settling  # noqa: PLC0415 - the driver

        name = Revision.parse(revision).name
        outcome = await settling.resolve(job, report, name, State.APPLIED if applied else None)
        match outcome:
            case settling.Settled(changed, checksum_renewed):
                is_now = "applied" if applied else "not applied"
                text = f"{name} is recorded as {is_now}{'' if changed else ' already'}"
                text += ", with the checksum of the file as it is now" if checksum_renewed else ""
                report.say("settled", text, revision=name, state=is_now, changed=changed)
                return Exit.DONE
            case settling.NotDirty(reason):
                return unusable(report, ValueError(reason))
            case _:
                who = str(outcome.holder) if outcome.holder else "sessions that come and go"
                report.fail(
                    "still_running", f"the run of {name} may be alive: {who} holds the lock; wait for it or end it"
                )
                return Exit.UNREACHABLE

    return perform(options, report, work, files=options.directory.is_dir())
