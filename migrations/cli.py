"""The commands `ledgergate migrate ...` and the flags of each; `commands` does the work."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from migrations.commands import authoring, bookkeeping, changes, executing, foreign, linting, views, waiting
from migrations.flags import SECONDS, command, examples, flag, limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrations.flags import Command
    from migrations.invocation import Options
    from migrations.report import Report


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 a migration failed, 2 bad usage or files, 3 not at the expected revision, "
    "4 the database or the lock could not be reached in time.",
)
def migrate() -> None:
    """Apply and inspect migrations, exactly once, under one lock.

    A migration is <14 digits>_<name>.sql with `-- migrate:up` and `-- migrate:down` sections, or a .py file with
    `async def up(connection)` on an asyncpg connection.
    """


def in_dialect(help_text: str) -> Callable[[Command], Command]:
    """Declare the flag that names another tool's ledger."""
    return flag("--dialect", help_text, metavar="NAME")


@migrate.command(
    epilog=examples(
        "ledgergate migrate up",
        "ledgergate migrate up --dir db/migrations --to 20250126120000_add_users",
        "ledgergate migrate up --dry-run",
    )
)
@flag("--to", "Last revision to apply; without it, all.", metavar="REV")
@flag("--dry-run", "Print the SQL that would run, as psql takes it, and write nothing.", is_flag=True)
@flag(
    "--allow-out-of-order",
    "Also apply what is older than the head, such as a branch that was merged late.",
    is_flag=True,
)
@command
@limits
def up(options: Options, report: Report, **flags: Any) -> int:
    """Apply what is pending, in order, under the lock.

    May be started any number of times at once: each migration runs once, and all exit 0. An image that is older than
    the ledger has nothing to do.
    """
    return changes.up(options, report, **flags)


@migrate.command(
    epilog=examples(
        "ledgergate migrate down                                # what the last `up` applied",
        "ledgergate migrate down --steps 1                      # the newest one",
        "ledgergate migrate down --to 20250126120000_add_users  # everything after it",
    )
)
@flag("--steps", "How many to undo, the newest first.", type=click.IntRange(min=1), metavar="N")
@flag("--to", "Undo everything that is newer than this revision, which stays.", metavar="REV")
@command
@limits
def down(options: Options, report: Report, **flags: Any) -> int:
    """Undo what is applied, newest first, under the lock; without a flag, what the last `up` applied.

    Asks nothing. Refuses before it begins when a file is missing or changed, or does not say how it is undone.
    """
    return changes.down(options, report, **flags)


@migrate.command(
    epilog="Examples: `ledgergate migrate status`; `ledgergate migrate status --check && start-the-application`."
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@flag("--check", "Exit 3 unless the ledger holds every migration of the directory.", is_flag=True)
@in_dialect("Whose ledger and directory these are, such as knex, or auto; without it, ours.")
@command
def status(options: Options, report: Report, dialect: str | None, **flags: Any) -> int:
    """Show what is applied, pending, missing, changed or dirty, and who holds the lock. Writes nothing."""
    if dialect is not None:
        return foreign.status(options, report, dialect=dialect, **flags)
    return views.status(options, report, **flags)


@migrate.command(
    epilog=examples(
        "ledgergate migrate verify",
        "ledgergate migrate verify --json | jq '.findings[].message'",
    )
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@command
def verify(options: Options, report: Report, **flags: Any) -> int:
    """Check the files against the ledger: edited, missing, skipped and half-applied revisions. Writes nothing.

    Exits 3 when something is wrong. Pending revisions are not, nor is a ledger that is ahead of the files.
    """
    return views.verify(options, report, **flags)


@migrate.command(
    epilog=examples(
        "ledgergate migrate wait && start-the-application",
        "ledgergate migrate wait --revision 20250126120000_add_users --timeout 120",
        'ledgergate migrate wait --revision "$EXPECTED_REVISION"',
    )
)
@flag("--revision", "What to wait for, as NAME or NAME+COUNT.DIGEST; without it, all of --dir.", metavar="REV")
@in_dialect("Whose ledger and directory these are, such as knex; without it, ours.")
@flag("--timeout", "How long to wait.", type=SECONDS, default=600.0, show_default=True, metavar="SECONDS")
@command
def wait(options: Options, report: Report, **flags: Any) -> int:
    """Wait until the ledger holds a revision, and all that must have come before it. Writes nothing.

    The database may be down meanwhile, or not be there yet. Exits 3 when the time is up, 4 when the database did not
    answer then.
    """
    return waiting.wait(options, report, **flags)


@migrate.command(
    "exec",
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "ledgergate migrate exec -- npx knex migrate:latest",
        "ledgergate migrate exec --dialect knex --expect 20250126120000_add_users -- npm run migrate:latest",
        "ledgergate migrate exec --expect 'ae1027a6acf5' -- alembic upgrade head",
    ),
)
@click.argument("command", metavar="-- CMD ...", nargs=-1, required=True, type=click.UNPROCESSED)
@flag(
    "--expect",
    "What the ledger must hold afterwards, as NAME or NAME+COUNT.DIGEST, or `all` of --dir. When it holds it already, "
    "CMD is not run.",
    metavar="REV",
)
@flag(
    "--dialect", "The tool whose ledger CMD writes; without it, as CMD or the database's tables tell.", metavar="NAME"
)
@flag(
    "--clear-stale-lock",
    "Free the tool's lock row (Knex, Liquibase, yoyo) when it is taken and nobody alive can own it.",
    is_flag=True,
)
@flag(
    "--timeout",
    "How long CMD may run; 0 is for ever.",
    type=SECONDS,
    default=0.0,
    show_default=True,
    metavar="SECONDS",
)
@command
def execute(options: Options, report: Report, **flags: Any) -> int:
    """Run another migration tool under our lock, exactly one at a time.

    CMD has our streams and gets our signals. Who does not get the lock waits, and then finds nothing to do. The lock is
    held for as long as CMD runs, and CMD is ended when it is lost. Exits 1 when CMD failed, 3 when it did not bring the
    ledger to --expect.
    """
    return executing.execute(options, report, **flags)


@migrate.command(
    epilog=examples(
        "ledgergate migrate baseline                                 # all files describe the database as it is",
        "ledgergate migrate baseline --to 20250126120000_add_users  # the newer ones are still to be applied",
        "ledgergate migrate baseline --from knex                      # those that Knex has applied",
    )
)
@flag("--to", "Last revision to record; without it, all.", metavar="REV")
@flag("--from", "Take over what another tool's ledger says, such as knex's.", "from_dialect", metavar="DIALECT")
@flag("--from-table", "Where that ledger is, when not where its tool puts it.", metavar="[SCHEMA.]TABLE")
@command
def baseline(options: Options, report: Report, **flags: Any) -> int:
    """Record revisions as applied without running them, for a database that was made by other means.

    Refuses to fill a ledger that is in use unless --to says how far.
    """
    return bookkeeping.baseline(options, report, **flags)


@migrate.command(
    epilog=examples(
        "ledgergate migrate resolve 20250126120000_add_index --applied      # you completed it by hand",
        "ledgergate migrate resolve 20250126120000_add_index --rolled-back  # you undid it by hand",
    )
)
@click.argument("revision", metavar="REV")
@flag("--applied", "Its effects are in the database now, all of them.", is_flag=True)
@flag("--rolled-back", "None of its effects is in the database (any more).", is_flag=True)
@command
def resolve(options: Options, report: Report, **flags: Any) -> int:
    """Settle a revision that failed, or whose run was killed, after you have put the database in order by hand.

    Refuses while its run is alive. The database itself is not touched.
    """
    return bookkeeping.resolve(options, report, **flags)


@migrate.command(
    epilog='Example: `ledgergate migrate new "add users"` creates migrations/20250126120000_add_users.sql.'
)
@click.argument("name")
@flag("--python", "Create a Python migration.", is_flag=True)
@command
def new(options: Options, report: Report, **flags: Any) -> int:
    """Create an empty migration file, named by the time (UTC) and NAME."""
    return authoring.new(options.directory, report, now=datetime.now(UTC), **flags)


@migrate.command(
    epilog=examples(
        'docker build --label dev.ledgergate.revision="$(ledgergate migrate revision)" .',
        "ledgergate migrate revision --dialect alembic --dir alembic/versions",
    )
)
@in_dialect("Whose directory it is, such as knex; without it, ours.")
@flag("--ancestors", "Print what leads to it, for tools that record heads alone (Alembic).", is_flag=True)
@command
def revision(options: Options, report: Report, dialect: str | None, *, ancestors: bool) -> int:
    """Print what an image with this directory expects, as NAME+COUNT.DIGEST where the ledger can confirm it."""
    if dialect is None and not ancestors:
        return authoring.revision(options.directory, report)
    return foreign.revision(options, report, dialect=dialect, ancestors=ancestors)


@migrate.command(
    epilog=examples(
        "ledgergate migrate lint",
        "ledgergate migrate lint --json | jq '.findings[].rule'",
        "ledgergate migrate lint --rules",
    )
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@flag("--advice", "Show findings of level advice too.", is_flag=True)
@flag("--rules", "List every rule with its sentence, and read no file.", is_flag=True)
@command
def lint(options: Options, report: Report, **flags: Any) -> int:
    """Find statements that lock or break a live system, with the safe way to do it. Needs no database.

    Exits 2 when a finding is of level error; warnings and advice leave it 0. A comment `-- lint:allow RULE because
    REASON` above a statement, or in the head of a file, allows a finding.
    """
    del report  # findings are the output, not an event
    return linting.lint(options.directory, **flags)
