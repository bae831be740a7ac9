"""`lint`: what needs the files, PostgreSQL's grammar and no database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrations.cli.exit_codes import Exit
from migrations.cli.options import command, flag, format_examples
from migrations.core.migration import FilesError
from migrations.files.native import load_directory

if TYPE_CHECKING:
    from pathlib import Path

    from migrations.cli.invocation import CommonOptions
    from migrations.cli.report import CommandReporter


@click.command(
    epilog=format_examples(
        "ledgergate migrate lint",
        "ledgergate migrate lint --json | jq '.findings[].rule'",
        "ledgergate migrate lint --rules",
    )
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@flag("--advice", "Show findings of level advice too.", is_flag=True)
@flag("--rules", "List every rule with its sentence, and read no file.", is_flag=True)
@command
def lint(options: CommonOptions, report: CommandReporter, **flags: bool) -> int:
    """Find statements that lock or break a live system, with the safe way to do it. Needs no database.

    Exits 2 when a finding is of level error; warnings and advice leave it 0. A comment `-- lint:allow RULE because
    REASON` above a statement, or in the head of a file, allows a finding.
    """
    del report  # findings are the output, not an event
    return examine(options.directory, **flags)


def examine(directory: Path, *, as_json: bool, advice: bool, rules: bool) -> int:
    """Show what is found in a directory; only findings of level error make the exit code 2."""
    from migrations.lint import linter, output  # noqa: PLC0415 - the grammar, which no other command needs
    from migrations.lint.rule import Level  # noqa: PLC0415

    if rules:
        output.print_rules(linter.RULES)
        return Exit.DONE
    try:
        files = [linter.File(found, found.path.read_bytes().decode("utf-8-sig")) for found in load_directory(directory)]
    except FilesError as error:
        files, findings = [], linter.problem_findings(error.problems)
    else:
        findings = linter.lint(files)
    if as_json:
        click.echo(output.to_json(findings, len(files)))
    else:
        output.print_findings(findings, len(files), advice=advice)
    return Exit.USAGE if any(finding.level is Level.ERROR for finding in findings) else Exit.DONE
