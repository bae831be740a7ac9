"""A team's decisions on findings, kept outside the migrations: a comment in a file would change its checksum.

`lint.toml` beside the migrations has allowances, and a baseline of the findings from before lint was used.
`[lint.rules]` in ledgergate.toml has levels of rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from migrations.lint.finding import Finding, Reason, arrange

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from migrations.lint.rule import Level


@dataclass(frozen=True, slots=True)
class Allowance:
    """Rules that files may break.

    Attributes:
        files: Pattern of the files' paths below the directory, such as `2024*`.
        rules: Names of the rules.
    """

    files: str
    rules: frozenset[str]


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do with findings.

    Attributes:
        levels: By name of a rule, the level that replaces the rule's own; None turns the rule off.
        allowances: Rules that files may break.
        baseline: By file and fingerprint of a statement, the rules that it broke when the baseline was written.
    """

    levels: Mapping[str, Level | None] = field(default_factory=dict)
    allowances: tuple[Allowance, ...] = ()
    baseline: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What remains of findings under a policy.

    Attributes:
        findings: Those to report.
        known: How many findings the baseline has left out.
        stale: Files with entries of the baseline that no finding needs.
        unused: Allowances that no finding needs.
    """

    findings: tuple[Finding, ...]
    known: int = 0
    stale: frozenset[str] = frozenset()
    unused: tuple[Allowance, ...] = ()


def apply_policy(findings: Iterable[Finding], policy: Policy, *, names: Mapping[str, str]) -> Verdict:
    """Return what remains of findings under a policy.

    Args:
        findings: The findings in files that are judged.
        policy: The policy of their directory.
        names: The path below the directory of every file that is judged, by its path in findings.
    """
    kept: list[Finding] = []
    used: set[Allowance] = set()
    seen: set[tuple[str, str, str]] = set()
    known = 0
    for finding in findings:
        name = names.get(finding.path, finding.path)
        reasons: list[Reason] = []
        in_baseline = False
        for reason in finding.reasons:
            level = policy.levels.get(reason.rule, reason.level)
            allowed = [a for a in policy.allowances if reason.rule in a.rules and fnmatchcase(name, a.files)]
            used.update(allowed)
            if reason.rule in policy.baseline.get((name, finding.fingerprint), ()):
                seen.add((name, finding.fingerprint, reason.rule))
                in_baseline = True
            elif level is not None and not allowed:
                reasons.append(replace(reason, level=level))
        if reasons:
            kept.append(replace(finding, reasons=arrange(reasons)))
        known += in_baseline and not reasons
    # With --since only some files are judged: the others have no findings, which says nothing about their entries.
    judged = set(names.values())
    stale = {
        file
        for (file, fingerprint), rules in policy.baseline.items()
        if file in judged and any((file, fingerprint, rule) not in seen for rule in rules)
    }
    unused = tuple(
        allowance
        for allowance in policy.allowances
        if allowance not in used and any(fnmatchcase(name, allowance.files) for name in judged)
    )
    return Verdict(tuple(kept), known, frozenset(stale), unused)
