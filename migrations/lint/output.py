"""Findings for people, as lines that editors can follow, and for programs, as one JSON object."""

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


def document(findings: Sequence[Finding], files: int) -> str:
    """Give everything as one JSON object, whose `version` changes when a program would have to.

    Args:
        findings: All of them, advice included.
        files: How many were read.
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


def show(findings: Sequence[Finding], files: int, *, advice: bool) -> None:
    """Write the findings, coloured on a terminal, and how many there are.

    Args:
        findings: All of them.
        files: How many were read.
        advice: Whether to write those of level advice too.
    """
    for finding in findings:
        if advice or finding.level is not Level.ADVICE:
            click.echo("\n".join(_lines(finding)))
    hidden = 0 if advice else _count(findings, Level.ADVICE)
    counts = ", ".join(_amount(_count(findings, level), level) for level in (Level.ERROR, Level.WARNING))
    rest = f"; {hidden} of level advice not shown: --advice shows them" if hidden else ""
    click.echo(f"{counts} in {_amount(files, 'file')}{rest}")


def show_rules(rules: Sequence[Rule]) -> None:
    """Write every rule with its level and its sentence."""
    width = max(len(rule.name) for rule in rules)
    for rule in rules:
        click.echo(f"{rule.name:<{width}}  {rule.level:<7}  {rule.summary}")


def _lines(finding: Finding) -> Iterator[str]:
    where = f"{finding.path}:{finding.line}" if finding.line else finding.path
    level = "" if finding.level is Level.ERROR else f" ({finding.level})"
    yield f"{_bold(where)}: {click.style(finding.rule, _colour(finding.level))}{level}: {finding.message}"
    if finding.lock:
        yield f"    locks: {finding.lock} on {', '.join(finding.tables)}, which blocks {finding.lock.blocks}"
    indented = [line for entry in finding.safe for line in entry.splitlines()]
    for number, line in enumerate(indented):
        yield f"    {'       ' if number else 'safe:  '}{line}"


def _colour(level: Level) -> str | None:
    return _COLOURS[level] if sys.stdout.isatty() else None


def _bold(text: str) -> str:
    return click.style(text, bold=True) if sys.stdout.isatty() else text


def _count(findings: Sequence[Finding], level: Level) -> int:
    return sum(finding.level is level for finding in findings)


def _amount(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
