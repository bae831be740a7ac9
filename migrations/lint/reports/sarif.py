"""Findings as SARIF 2.1.0, which GitHub's code scanning and many other viewers read.

Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from migrations.lint.reports.summary import plural
from migrations.lint.rule import Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.lint.finding import Finding
    from migrations.lint.rule import Rule

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Level.ERROR: "error", Level.WARNING: "warning", Level.ADVICE: "note"}


def to_sarif(findings: Sequence[Finding], rules: Sequence[Rule], version: str) -> str:
    """Format findings as a SARIF log with one run.

    Args:
        findings: Those to show.
        rules: Every rule, in the order of the documentation.
        version: The version of this program.
    """
    index = {rule.name: number for number, rule in enumerate(rules)}
    driver = {"name": "ledgergate", "version": version, "rules": [_rule(rule) for rule in rules]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, index) for finding in findings],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _rule(rule: Rule) -> dict[str, Any]:
    safe = "\n".join(rule.safe)
    described: dict[str, Any] = {
        "id": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": f"{rule.summary} {rule.details}".strip()},
        "help": {"text": f"The safe way:\n{safe}", "markdown": f"The safe way:\n\n```sql\n{safe}\n```"},
        "defaultConfiguration": {"level": _LEVELS[rule.level]},
    }
    if "://" in rule.source:
        described["helpUri"] = rule.source
    return described


def _result(finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": _uri(finding.path)}}
    if finding.line:
        location["region"] = {"startLine": finding.line}
        if finding.column:
            location["region"]["startColumn"] = finding.column
        if finding.end_line > finding.line:
            location["region"]["endLine"] = finding.end_line
    return {
        "ruleId": finding.rule,
        "ruleIndex": index[finding.rule],
        "level": _LEVELS[finding.level],
        "message": {"text": describe(finding)},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"statement/v1": f"{finding.fingerprint}:{finding.rule}"},
    }


def describe(finding: Finding) -> str:
    """Return the messages of a finding's reasons and the safe way of the gravest, in lines."""
    first, *others = finding.reasons
    lines = [first.message]
    lines += [f"and {reason.rule}: {reason.message}" for reason in others]
    if others:
        lines.append(f"{plural(len(finding.reasons), 'reason')} for one statement")
    if first.safe:
        lines += ["", "The safe way:", *first.safe]
    return "\n".join(lines)


def _uri(path: str) -> str:
    """Return a relative path as a relative reference, an absolute one as a URI."""
    return PurePath(path).as_uri() if PurePath(path).is_absolute() else quote(PurePath(path).as_posix())
