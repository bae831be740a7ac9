"""`ledgergate migrate revision`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrations.cli.command import CommonOptions, report_unusable
from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.directory import extension_flag, list_revisions, select_dialect
from migrations.cli.options import common_options
from migrations.core.migration import FilesError
from migrations.core.revision import RevisionError
from migrations.files.external import ExternalFilesError

if TYPE_CHECKING:
    from collections.abc import Sequence
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
@extension_flag
@common_options
def revision(
    options: CommonOptions,
    reporter: CommandReporter,
    *,
    dialect: str | None,
    extensions: Sequence[str],
    ancestors: bool,
) -> int:
    """Print the revision that an image with this directory expects.

    It is NAME+COUNT.DIGEST where the ledger can confirm this form, else NAME. Needs the directory and no database.
    Exits 2 when the directory holds no migration or has problems.
    """
    return print_revision(options.directories, reporter, extensions, dialect=dialect, ancestors=ancestors)


def print_revision(
    directories: Sequence[Path],
    reporter: CommandReporter,
    extensions: Sequence[str] = (),
    *,
    dialect: str | None = None,
    ancestors: bool = False,
) -> int:
    """Print the expected revision of directories, or those before it; nothing else goes to standard output."""
    try:
        selected = select_dialect(dialect)
        names = list_revisions(selected, directories, extensions)
        click.echo(",".join(names[:-1]) if ancestors else selected.declare(names))
    except (FilesError, ExternalFilesError, RevisionError, LookupError) as error:
        return report_unusable(reporter, error)
    return Exit.DONE
