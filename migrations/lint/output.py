"""Findings as text, in lines that editors can follow, and as one JSON object."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from migrations.lint.rule import Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.lint.finding import Finding
    from migrations.lint.rule import Rule

_COLOURS = {Level.ERROR: "red", Level.WARNING: "yellow", Level.ADVICE: "cyan"}


def to_json(findings: Sequence[Finding], files: int) -> str:
    """Format all findings as one JSON object; a change that would break its readers needs a new `version`.

    Args:
        findings: All findings, advice included.
        files: How many files were read.
    """
    return json.dumps(
        {
            "version": 1,
            "files": files,
            "counts": {level: _count(findings, level) for level in Level},
            "findings": [
                {
                    "path": finding.path,
                    "line": finding.line,
                    "column": finding.column,
                    "rule": finding.rule,
                    "level": finding.level,
                    "message": finding.message,
                    "lock": {"mode": finding.lock, "blocks": finding.lock.blocks, "tables": list(finding.tables)}
                    if finding.lock
                    else None,
                    "safe": list(finding.safe),
                }
                for finding in findings
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def print_findings(findings: Sequence[Finding], files: int, *, advice: bool) -> None:
    """Print the findings, coloured on a terminal, and how many there are.

    Args:
        findings: All findings.
        files: How many files were read.
        advice: Whether to print findings of level advice too.
    """
    for finding in findings:
        if advice or finding.level is not Level.ADVICE:
            click.echo("\n".join(_lines(finding)))
    hidden = 0 if advice else _count(findings, Level.ADVICE)
    counts = ", ".join(_plural(_count(findings, level), level) for level in (Level.ERROR, Level.WARNING))
    rest = f"; {hidden} of level advice not shown: --advice shows them" if hidden else ""
    click.echo(f"{counts} in {_plural(files, 'file')}{rest}")


def print_rules(rules: Sequence[Rule]) -> None:
    """Print every rule with its level and its summary."""
    width = max(len(rule.name) for rule in rules)
    for rule in rules:
        click.echo(f"{rule.name:<{width}}  {rule.level:<7}  {rule.summary}")


def _lines(finding: Finding) -> Iterator[str]:
    location = f"{finding.path}:{finding.line}" if finding.line else finding.path
    level = "" if finding.level is Level.ERROR else f" ({finding.level})"
    yield f"{_bold(location)}: {click.style(finding.rule, _colour(finding.level))}{level}: {finding.message}"
    if finding.lock:
        yield f"    locks: {finding.lock} on {', '.join(finding.tables)}, which blocks {finding.lock.blocks}"
    safe = [line for entry in finding.safe for line in entry.splitlines()]
    for number, line in enumerate(safe):
        yield f"    {'       ' if number else 'safe:  '}{line}"


def _colour(level: Level) -> str | None:
    return _COLOURS[level] if sys.stdout.isatty() else None


def _bold(text: str) -> str:
    return click.style(text, bold=True) if sys.stdout.isatty() else text


def _count(findings: Sequence[Finding], level: Level) -> int:
    return sum(finding.level is level for finding in findings)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
