"""Findings as GitHub's workflow commands, which annotate the lines of a pull request.

Source: https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations.lint.reports.sarif import describe
from migrations.lint.rule import Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.lint.finding import Finding

_COMMANDS = {Level.ERROR: "error", Level.WARNING: "warning", Level.ADVICE: "notice"}


def to_github(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a command for each finding."""
    for finding in findings:
        properties = {"file": finding.path, "title": f"{finding.rule} ({finding.level})"}
        if finding.line:
            properties["line"] = str(finding.line)
        # GitHub knows columns only for an annotation of a single line.
        if finding.end_line > finding.line:
            properties["endLine"] = str(finding.end_line)
        elif finding.column:
            properties["col"] = str(finding.column)
        written = ",".join(f"{name}={_escape_property(value)}" for name, value in properties.items())
        yield f"::{_COMMANDS[finding.level]} {written}::{_escape(describe(finding))}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
