"""`ledgergate migrate lint`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.options import common_options
from migrations.core.migration import FilesError
from migrations.files.native import load_directory

if TYPE_CHECKING:
    from pathlib import Path

    from migrations.cli.command import CommonOptions
    from migrations.cli.report import CommandReporter


@click.command(
    epilog=format_examples(
        "ledgergate migrate lint",
        "ledgergate migrate lint --json | jq '.findings[].rule'",
        "ledgergate migrate lint --rules",
    )
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@flag("--advice", "Also show findings of level advice.", is_flag=True)
@flag("--rules", "List every rule in one sentence, and read no file.", is_flag=True)
@common_options
def lint(options: CommonOptions, reporter: CommandReporter, **flags: bool) -> int:
    """Find statements that lock or break a live system, with the safe way to do it. Needs no database.

    Exits 2 when a finding is of level error, 0 for warnings and advice. A comment `-- lint:allow RULE because REASON`
    above a statement, or at the top of a file, allows a finding.
    """
    del reporter  # the findings are the output of the command, not events
    return lint_directory(options.directory, **flags)


def lint_directory(directory: Path, *, as_json: bool, advice: bool, rules: bool) -> int:
    """Print the findings of a directory; the exit code is 2 when one is of level error, else 0."""
    from migrations.lint import linter, output  # noqa: PLC0415 - the grammar takes long to load, and only `lint` needs it
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
