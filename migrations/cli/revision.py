"""`ledgergate migrate revision`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrations.cli.command import CommonOptions, report_unusable
from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.directory import list_revisions, select_dialect
from migrations.cli.options import common_options
from migrations.core.migration import FilesError
from migrations.core.revision import RevisionError
from migrations.files.external import ExternalFilesError

if TYPE_CHECKING:
    from pathlib import Path

    from migrations.cli.report import CommandReporter


@click.command(
    epilog=format_examples(
        'docker build --label dev.ledgergate.revision="$(ledgergate migrate revision)" .',
        "ledgergate migrate revision --dialect alembic --dir alembic/versions",
    )
)
@flag("--dialect", "Tool whose directory it is, such as knex. Without it: ledgergate.", metavar="NAME")
@flag("--ancestors", "Print the revisions before it, for tools that record heads alone (Alembic).", is_flag=True)
@common_options
def revision(options: CommonOptions, reporter: CommandReporter, *, dialect: str | None, ancestors: bool) -> int:
    """Print the revision that an image with this directory expects.

    It is NAME+COUNT.DIGEST where the ledger can confirm this form, else NAME. Needs the directory and no database.
    Exits 2 when the directory holds no migration or has problems.
    """
    return print_revision(options.directory, reporter, dialect=dialect, ancestors=ancestors)


def print_revision(
    directory: Path, reporter: CommandReporter, *, dialect: str | None = None, ancestors: bool = False
) -> int:
    """Print the expected revision of a directory, or those before it; nothing else goes to standard output."""
    try:
        selected = select_dialect(dialect)
        names = list_revisions(selected, directory)
        click.echo(",".join(names[:-1]) if ancestors else selected.declare(names))
    except (FilesError, ExternalFilesError, RevisionError, LookupError) as error:
        return report_unusable(reporter, error)
    return Exit.DONE
