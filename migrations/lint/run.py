"""A run of lint: read what was named, judge it, apply the policy."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from migrations.lint import settings
from migrations.lint.finding import Finding, arrange
from migrations.lint.linter import NAMES, lint, problem_findings
from migrations.lint.policy import Policy, apply_policy
from migrations.lint.reports.summary import Summary, plural
from migrations.lint.rule import Level
from migrations.lint.rules.contracts import CONTRACT_NOT_LAST
from migrations.lint.scripts import layouts
from migrations.lint.scripts.git import changed_files
from migrations.lint.scripts.history import read_histories
from migrations.lint.scripts.tree import STDIN
from migrations.lint.settings import LintSettings, LintSettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from migrations.lint.policy import Verdict
    from migrations.lint.scripts.history import LintHistory

_RULES_OF_CHANGES = frozenset((CONTRACT_NOT_LAST.name,))
"""Rules on a single change. Lint knows the change only if it judges a part of a directory; they say nothing of the
whole history."""
_DIALECTS = frozenset((layouts.AUTO, *layouts.NAMES))


@dataclass(frozen=True, slots=True, kw_only=True)
class LintRequest:
    """What a run is asked for; None where ledgergate.toml or the default decides.

    Attributes:
        paths: Directories, files, and `-` for standard input.
        stdin: What standard input holds, where it is named.
        dialect: Name of the tool whose files they are, or `auto`.
        exclude: Patterns of files that are not read.
        since: The revision of git whose later changes are judged.
        writes_baseline: Whether to write the findings into lint.toml.
        fail_on: The lowest level that fails.
        pg_version: Major version of the oldest PostgreSQL.
    """

    paths: tuple[str, ...]
    stdin: bytes | None = None
    dialect: str | None = None
    exclude: tuple[str, ...] = ()
    since: str | None = None
    writes_baseline: bool = False
    fail_on: str | None = None
    pg_version: int | None = None


@dataclass(frozen=True, slots=True)
class LintOutcome:
    """What a run has found.

    Attributes:
        findings: Every finding, advice included.
        files: How many files were judged.
        older: How many were read only for the schema.
        known: How many findings the baseline has left out.
        notes: Further remarks, one sentence each.
        fail_on: The lowest level that fails, or `never`.
    """

    findings: tuple[Finding, ...] = ()
    files: int = 0
    older: int = 0
    known: int = 0
    notes: tuple[str, ...] = ()
    fail_on: str = Level.ERROR

    @property
    def fails(self) -> bool:
        """Whether a finding is of a level that fails; a file that is no migration always fails."""
        levels = list(Level)
        failing = () if self.fail_on == settings.NEVER else levels[: levels.index(Level(self.fail_on)) + 1]
        return any(finding.level in failing or finding.rule == "file" for finding in self.findings)

    def above_advice(self) -> tuple[Finding, ...]:
        """Return the findings above level advice, without their reasons of that level."""
        return tuple(_above_advice(finding) for finding in self.findings if finding.level is not Level.ADVICE)

    def summary(self, *, hides_advice: bool) -> Summary:
        """Return how many findings there are."""
        counts = Counter(finding.level for finding in self.findings)
        return Summary(
            {level: counts[level] for level in Level},
            self.files,
            self.older,
            counts[Level.ADVICE] if hides_advice else 0,
            self.known,
            self.notes,
        )

    def plus(self, other: LintOutcome) -> LintOutcome:
        """Return the outcome of both."""
        return LintOutcome(
            (*self.findings, *other.findings),
            self.files + other.files,
            self.older + other.older,
            self.known + other.known,
            (*self.notes, *other.notes),
            self.fail_on,
        )


def run_lint(request: LintRequest, settings_file: Path) -> LintOutcome:
    """Lint what is asked for.

    Args:
        request: The flags, which override the settings.
        settings_file: ledgergate.toml, which need not exist.

    Raises:
        LintSettingsError: A flag, ledgergate.toml or lint.toml cannot be used; with every problem.
        GitError: git cannot list what has changed.
    """
    given = _settings(settings_file)
    problems = []
    dialect, fail_on = request.dialect or given.dialect or layouts.AUTO, request.fail_on or given.fail_on or "error"
    version = request.pg_version if request.pg_version is not None else given.pg_version
    if dialect not in _DIALECTS:
        problems.append(f"expected --dialect among {', '.join(sorted(_DIALECTS))}; got {dialect!r}")
    if fail_on not in settings.FAIL_ON:
        problems.append(f"expected --fail-on among {', '.join(settings.FAIL_ON)}; got {fail_on!r}")
    if version is not None and not settings.OLDEST_VERSION <= version <= settings.NEWEST_VERSION:
        problems.append(f"expected --pg-version to be a major version such as 15; got {version}")
    if problems:
        raise LintSettingsError(*problems)
    histories = read_histories(
        request.paths, dialect=dialect, exclude=(*request.exclude, *given.exclude), stdin=request.stdin
    )
    outcome = LintOutcome(fail_on=fail_on)
    for history in histories:
        if request.since is not None and history.scripts and history.scripts[0].path != STDIN:
            changed = changed_files(history.root, request.since)
            history = history.judging(  # noqa: PLW2901 - the same history, judged in part
                script.path for script in history.scripts if script.is_judged and Path(script.path).resolve() in changed
            )
        outcome = outcome.plus(_lint(history, request, given, version))
    return replace(outcome, findings=tuple(sorted(outcome.findings)))


def _settings(file: Path) -> LintSettings:
    if not file.is_file():
        return LintSettings()
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        return settings.read_settings(document.get("lint", {}), rules=NAMES, dialects=_DIALECTS)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LintSettingsError(f"{file}: {error}") from error
    except LintSettingsError as error:
        raise LintSettingsError(*(f"{file}: {problem}" for problem in error.problems)) from error


def _lint(history: LintHistory, request: LintRequest, given: LintSettings, version: int | None) -> LintOutcome:
    if history.problems:
        return LintOutcome(tuple(problem_findings(history.problems)))
    names = {
        script.path: Path(script.path).relative_to(history.root).as_posix() if script.path != STDIN else STDIN
        for script in history.scripts
        if script.is_judged
    }
    is_stdin = STDIN in names
    policy = Policy() if is_stdin else settings.read_policy(history.root, rules=NAMES)
    findings = lint(history.scripts, version=version)
    older = len({script.path for script in history.scripts if not script.is_judged})
    dropped = frozenset() if older else _RULES_OF_CHANGES
    if request.writes_baseline and not is_stdin:
        bare = apply_policy(findings, replace(policy, baseline={}, levels=given.levels), names=names)
        shown = _without_rules(bare.findings, dropped)
        wanted = [_above_advice(finding) for finding in shown if finding.rule != "file"]
        count = settings.write_baseline(history.root, [f for f in wanted if f.reasons], names=names)
        note = f"wrote {plural(count, 'finding')} into {history.root / settings.POLICY_FILE}"
        left = tuple(finding for finding in bare.findings if finding.rule == "file")
        return LintOutcome(left, len(names), older, count, (note,))
    verdict = apply_policy(findings, replace(policy, levels=given.levels), names=names)
    shown = _without_rules(verdict.findings, dropped)
    return LintOutcome(shown, len(names), older, verdict.known, tuple(_notes(history, verdict)))


def _without_rules(findings: Iterable[Finding], rules: frozenset[str]) -> tuple[Finding, ...]:
    """Drop the reasons of some rules, after the policy has been applied.

    In the other order, an allowance of such a rule would be reported as unused, although a run over a change needs it.
    """
    kept = (replace(f, reasons=tuple(reason for reason in f.reasons if reason.rule not in rules)) for f in findings)
    return tuple(finding for finding in kept if finding.reasons)


def _above_advice(finding: Finding) -> Finding:
    """Return a finding without its advice: that is not shown by default, so a baseline need not hide it."""
    return replace(finding, reasons=arrange(r for r in finding.reasons if r.level is not Level.ADVICE))


def _notes(history: LintHistory, verdict: Verdict) -> Iterator[str]:
    file = history.root / settings.POLICY_FILE
    if verdict.stale:
        files = ", ".join(sorted(verdict.stale))
        yield f"{file}: no finding needs entries of the baseline for {files}; --write-baseline takes them out"
    for allowance in verdict.unused:
        rules = ", ".join(sorted(allowance.rules))
        yield f"{file}: no finding needs the allowance of {rules} for {allowance.files}; take it out"
