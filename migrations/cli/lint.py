"""`ledgergate migrate lint`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.options import SETTINGS_FILE, common_options

if TYPE_CHECKING:
    from migrations.cli.command import CommonOptions
    from migrations.cli.report import CommandReporter
    from migrations.lint.run import LintOutcome

OUTPUTS = ("text", "json", "sarif", "github", "gitlab")


class LintFlags(NamedTuple):
    """The flags of the command, see their help; None where a flag was not given."""

    output: str = "text"
    advice: bool = False
    dialect: str | None = None
    exclude: tuple[str, ...] = ()
    since: str | None = None
    write_baseline: bool = False
    fail_on: str | None = None
    pg_version: int | None = None


@click.command(
    epilog=format_examples(
        "ledgergate migrate lint db/migrations",
        "ledgergate migrate lint --since origin/main --output github",
        "ledgergate migrate lint --write-baseline",
        "alembic upgrade --sql head | ledgergate migrate lint -",
        "ledgergate migrate lint --json | jq '.findings[].rule'",
        "ledgergate migrate lint --rules",
    )
)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@flag("--output", "Form of the findings.", type=click.Choice(OUTPUTS), default="text", show_default=True)
@flag("--json", "The same as --output json.", "as_json", is_flag=True)
@flag("--advice", "Also show findings of level advice; JSON always has them.", is_flag=True)
@flag("--rules", "List every rule in one sentence, and read no file.", is_flag=True)
@flag(
    "--dialect",
    "Whose files they are: that of a tool, plain for any other SQL, auto for what the directory shows.",
    show_default="auto",
    metavar="NAME",
)
@flag(
    "--exclude",
    "Leave out files whose name, path or folder matches, such as 'V1__*'. May be given several times.",
    multiple=True,
    metavar="PATTERN",
)
@flag(
    "--since",
    "Judge only files that were added or changed since the merge base with this git revision; the older ones give the "
    "schema.",
    metavar="REV",
)
@flag("--write-baseline", "Write the findings into lint.toml, which then leaves them out.", is_flag=True)
@flag(
    "--fail-on",
    "Lowest level of a finding that makes the exit code 2: error, warning, advice or never.",
    show_default="error",
    metavar="LEVEL",
)
@flag(
    "--pg-version",
    "Major version of the oldest PostgreSQL that runs the migrations.",
    type=int,
    show_default="any supported one",
    metavar="N",
)
@common_options
def lint(
    options: CommonOptions,
    reporter: CommandReporter,
    paths: tuple[str, ...],
    *,
    as_json: bool,
    rules: bool,
    **flags: object,
) -> int:
    """Find statements that lock or break a live system, with the safe way to do it. Needs no database.

    PATH is a directory, a file, or - for standard input; without one it is the directory of --dir. Reads the files of
    every tool that keeps SQL. Exits 2 for a finding of level error, 0 for warnings and advice. A comment
    `-- lint:allow RULE because REASON` above a statement, or at the top of a file, allows a finding.
    """
    del reporter  # the findings are the output of the command, not events
    if rules:
        return list_rules()
    given = LintFlags(**flags)  # type: ignore[arg-type]
    return lint_paths(paths or (str(options.directory),), given._replace(output="json") if as_json else given)


def list_rules() -> int:
    """Print every rule."""
    from migrations.lint.linter import RULES  # noqa: PLC0415 - the grammar takes long to load, and only `lint` needs it
    from migrations.lint.reports.text_report import print_rules  # noqa: PLC0415 - as above

    print_rules(RULES)
    return Exit.DONE


def lint_paths(paths: tuple[str, ...], flags: LintFlags) -> int:
    """Print the findings in directories and files, and return the exit code.

    Args:
        paths: Directories, files, and `-` for standard input.
        flags: The flags of the command.

    Raises:
        click.UsageError: The flags or the settings cannot be used, or git does not answer.
    """
    from migrations.lint.run import LintRequest, run_lint  # noqa: PLC0415 - as above
    from migrations.lint.scripts.git import GitError  # noqa: PLC0415 - as above
    from migrations.lint.settings import LintSettingsError  # noqa: PLC0415 - as above

    stdin = sys.stdin.buffer.read() if "-" in paths else None
    try:
        outcome = run_lint(
            LintRequest(
                paths=paths,
                stdin=stdin,
                dialect=flags.dialect,
                exclude=flags.exclude,
                since=flags.since,
                writes_baseline=flags.write_baseline,
                fail_on=flags.fail_on,
                pg_version=flags.pg_version,
            ),
            Path(SETTINGS_FILE),
        )
    except (LintSettingsError, GitError) as error:
        problems: tuple[str, ...] = getattr(error, "problems", (str(error),))
        raise click.UsageError("\n".join(problems)) from error
    _print(outcome, flags)
    return Exit.USAGE if outcome.fails else Exit.DONE


def _print(outcome: LintOutcome, flags: LintFlags) -> None:
    from migrations.lint.linter import RULES  # noqa: PLC0415 - as above
    from migrations.lint.reports import github, gitlab, json_report, sarif, text_report  # noqa: PLC0415 - as above

    summary = outcome.summary(hides_advice=not flags.advice)
    shown = outcome.findings if flags.advice else outcome.above_advice()
    match flags.output:
        case "json":
            click.echo(json_report.to_json(outcome.findings, outcome.summary(hides_advice=False)))
        case "sarif":
            from importlib.metadata import version  # noqa: PLC0415 - as above

            click.echo(sarif.to_sarif(shown, RULES, version("ledgergate")))
        case "gitlab":
            click.echo(gitlab.to_gitlab(shown))
        case "github":
            for line in (*github.to_github(shown), *summary.lines()):
                click.echo(line)
        case _:
            text_report.print_findings(shown, summary)
