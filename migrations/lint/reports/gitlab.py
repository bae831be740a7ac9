"""Findings as a code quality report of GitLab, which shows them in a merge request.

Source: https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from migrations.lint.reports.sarif import describe
from migrations.lint.rule import Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.lint.finding import Finding

_SEVERITIES = {Level.ERROR: "critical", Level.WARNING: "major", Level.ADVICE: "info"}


def to_gitlab(findings: Sequence[Finding]) -> str:
    """Format findings as a JSON array."""
    seen: dict[str, int] = {}
    return json.dumps([_issue(finding, seen) for finding in findings], indent=2, ensure_ascii=False)


def _issue(finding: Finding, seen: dict[str, int]) -> dict[str, Any]:
    # Equal statements of a file are told apart by their number; their lines would change with every edit above them.
    identity = f"{finding.path}:{finding.fingerprint}:{finding.rule}"
    number = seen[identity] = seen.get(identity, -1) + 1
    return {
        "description": describe(finding),
        "check_name": finding.rule,
        "fingerprint": sha256(f"{identity}:{number}".encode("utf-8", "surrogatepass")).hexdigest(),
        "severity": _SEVERITIES[finding.level],
        "location": {"path": finding.path, "lines": {"begin": max(finding.line, 1)}},
    }
