"""`ledgergate migrate revision`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from migrations.cli.command import CommonOptions, report_unusable
from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.directory import declare_directory, extension_flag
from migrations.cli.options import common_options
from migrations.core.contract import ContractError
from migrations.core.declaration import DeclarationError
from migrations.core.migration import FilesError
from migrations.core.revision import RevisionError
from migrations.files.external import ExternalFilesError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from migrations.cli.report import CommandReporter
    from migrations.core.declaration import Declaration

OUTPUTS = ("plain", "labels", "annotations", "json")


@click.command(
    epilog=format_examples(
        "docker build $(ledgergate migrate revision --output labels) .",
        "ledgergate migrate revision --dialect alembic --dir alembic/versions",
        'helm upgrade shop ./chart --set-json podAnnotations="$(ledgergate migrate revision --output annotations)"',
    )
)
@flag("--dialect", "Tool whose directory it is, such as knex. Without it: ledgergate.", metavar="NAME")
@flag("--ancestors", "Print the revisions before it, for tools that record heads alone (Alembic).", is_flag=True)
@flag(
    "--output",
    "plain: the revision alone. labels: --label arguments of a build. annotations: a pod's annotations as one line of "
    "JSON, which is YAML too. json: everything.",
    "-o",
    type=click.Choice(OUTPUTS),
    default="plain",
    show_default=True,
)
@extension_flag
@common_options
def revision(
    options: CommonOptions,
    reporter: CommandReporter,
    *,
    dialect: str | None,
    extensions: Sequence[str],
    ancestors: bool,
    output: str,
) -> int:
    """Print the revision that an image with this directory needs.

    It is NAME+COUNT.DIGEST where the ledger can confirm this form, else NAME. Contract migrations at the end of the
    directory are not needed: the image runs before and after them. The other outputs print them too, since they say
    which older images cannot run any more. Needs the directory and no database. Exits 2 when the directory holds no
    migration or has problems.
    """
    return print_revision(
        options.directories, reporter, extensions, dialect=dialect, ancestors=ancestors, output=output
    )


def print_revision(
    directories: Sequence[Path],
    reporter: CommandReporter,
    extensions: Sequence[str] = (),
    *,
    dialect: str | None = None,
    ancestors: bool = False,
    output: str = "plain",
) -> int:
    """Print what directories declare, or the revisions before it; nothing else goes to standard output."""
    if ancestors and output != "plain":
        return report_unusable(reporter, DeclarationError(f"expected --ancestors or --output {output}, got both"))
    try:
        declaration, before = declare_directory(directories, dialect, extensions)
        click.echo(",".join(before) if ancestors else _format(declaration, output))
        if declaration.ancestors_left_out and output != "plain":
            click.echo("ledgergate: the ancestors are too many for a label or annotation, and are left out", err=True)
    except (FilesError, ExternalFilesError, RevisionError, ContractError, DeclarationError, LookupError) as error:
        return report_unusable(reporter, error)
    return Exit.DONE


def _format(declaration: Declaration, output: str) -> str:
    match output:
        case "labels":
            return declaration.build_arguments()
        case "annotations":
            return json.dumps(declaration.annotations(), ensure_ascii=False)
        case "json":
            document = {
                "revision": str(declaration.revision),
                "contracts": [contract._asdict() for contract in declaration.contracts],
                "labels": declaration.labels(),
                "annotations": declaration.annotations(),
            }
            return json.dumps(document, ensure_ascii=False)
        case _:
            return str(declaration.revision)
