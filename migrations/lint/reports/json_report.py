"""Findings as one JSON object."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.lint.finding import Finding, Reason
    from migrations.lint.reports.summary import Summary


def to_json(findings: Sequence[Finding], summary: Summary) -> str:
    """Format all findings as one JSON object; a change that would break its readers needs a new `version`.

    Args:
        findings: All findings, advice included.
        summary: How many there are.
    """
    return json.dumps(
        {
            "version": 2,
            "files": summary.files,
            "older": summary.older,
            "counts": dict(summary.counts),
            "known": summary.known,
            "notes": list(summary.notes),
            "findings": [
                {
                    "path": finding.path,
                    "line": finding.line,
                    "column": finding.column,
                    **_reason(finding.gravest),
                    "fingerprint": finding.fingerprint,
                    "reasons": [_reason(reason) for reason in finding.reasons],
                }
                for finding in findings
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def _reason(reason: Reason) -> dict[str, Any]:
    lock = {"mode": reason.lock, "blocks": reason.lock.blocks, "tables": list(reason.tables)} if reason.lock else None
    return {
        "rule": reason.rule,
        "level": reason.level,
        "message": reason.message,
        "lock": lock,
        "safe": list(reason.safe),
    }
