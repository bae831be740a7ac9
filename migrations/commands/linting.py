"""`lint`: what needs the files, PostgreSQL's grammar and no database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrations.files import FilesError, load
from migrations.invocation import Exit

if TYPE_CHECKING:
    from pathlib import Path


def lint(directory: Path, *, as_json: bool, advice: bool, rules: bool) -> int:
    """Show what is found in a directory; only findings of level error make the exit code 2."""
    from migrations.lint import linter, output  # noqa: PLC0415 - the grammar, which no other command needs
    from migrations.lint.rule import Level  # noqa: PLC0415

    if rules:
        output.show_rules(linter.RULES)
        return Exit.DONE
    try:
        files = [linter.File(found, found.path.read_bytes().decode("utf-8-sig")) for found in load(directory)]
    except FilesError as error:
        files, findings = [], linter.unusable(error.problems)
    else:
        findings = linter.lint(files)
    if as_json:
        click.echo(output.document(findings, len(files)))
    else:
        output.show(findings, len(files), advice=advice)
    return Exit.USAGE if any(finding.level is Level.ERROR for finding in findings) else Exit.DONE
