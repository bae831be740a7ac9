"""Findings as text, with `path:line`, which editors can open."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from migrations.lint.reports.summary import plural
from migrations.lint.rule import Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.lint.finding import Finding, Reason
    from migrations.lint.reports.summary import Summary
    from migrations.lint.rule import Rule

_COLOURS = {Level.ERROR: "red", Level.WARNING: "yellow", Level.ADVICE: "cyan"}


def print_findings(findings: Sequence[Finding], summary: Summary) -> None:
    """Print the findings, coloured on a terminal, and how many there are.

    Args:
        findings: Those to show.
        summary: What the last lines say.
    """
    for finding in findings:
        click.echo("\n".join(_lines(finding)))
    for line in summary.lines():
        click.echo(line)


def print_rules(rules: Sequence[Rule]) -> None:
    """Print every rule with its level and its summary."""
    width = max(len(rule.name) for rule in rules)
    for rule in rules:
        click.echo(f"{rule.name:<{width}}  {rule.level:<7}  {rule.summary}")


def _lines(finding: Finding) -> Iterator[str]:
    location = f"{finding.path}:{finding.line}" if finding.line else finding.path
    first, *others = finding.reasons
    yield f"{_bold(location)}: {_headline(first)}"
    yield from _details(first)
    for number, reason in enumerate(others):
        yield f"    {'and' if not number or others[number - 1].rule != reason.rule else '   '} {_headline(reason)}"
        if reason.rule != first.rule:
            yield from (f"    {line}" for line in _details(reason))
    if others:
        yield f"    {plural(len(finding.reasons), 'reason')} for one statement"


def _headline(reason: Reason) -> str:
    level = "" if reason.level is Level.ERROR else f" ({reason.level})"
    return f"{click.style(reason.rule, _colour(reason.level))}{level}: {reason.message}"


def _details(reason: Reason) -> Iterator[str]:
    if reason.lock:
        yield f"    locks: {reason.lock} on {', '.join(reason.tables)}, which blocks {reason.lock.blocks}"
    safe = [line for entry in reason.safe for line in entry.splitlines()]
    for number, line in enumerate(safe):
        yield f"    {'       ' if number else 'safe:  '}{line}"


def _colour(level: Level) -> str | None:
    return _COLOURS[level] if sys.stdout.isatty() else None


def _bold(text: str) -> str:
    return click.style(text, bold=True) if sys.stdout.isatty() else text
