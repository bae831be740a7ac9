"""The settings of lint: `[lint]` in ledgergate.toml, and lint.toml beside the migrations.

ValueError
└── LintSettingsError   every problem of a file at once
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from migrations.lint.policy import Allowance, Policy
from migrations.lint.rule import Level
from migrations.lint.suppression import RENAMED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from migrations.lint.finding import Finding

POLICY_FILE = "lint.toml"
OFF = "off"
NEVER = "never"
FAIL_ON = (*(level.value for level in Level), NEVER)
OLDEST_VERSION, NEWEST_VERSION = 9, 99
# Existing files contain this text: write_baseline finds by it where the part begins that it replaces.
_BASELINE_HEAD = """\
# Findings that were there when lint was first used: FILE = ["FINGERPRINT RULE …"]. They are not reported.
# `ledgergate migrate lint --write-baseline` writes this part, to the end of the file, anew.
[baseline]
"""


class LintSettingsError(ValueError):
    """Flags or a settings file that cannot be used.

    Attributes:
        problems: What is wrong, one sentence each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class LintSettings:
    """`[lint]` of ledgergate.toml.

    Attributes:
        dialect: Name of the tool whose files they are, or `auto`; None where the file does not say.
        exclude: Patterns of files that are not read.
        fail_on: The lowest level of a finding that makes the exit code 2, or `never`.
        pg_version: Major version of the oldest PostgreSQL that runs the migrations.
        levels: By name of a rule, the level that replaces the rule's own; None turns the rule off.
    """

    dialect: str | None = None
    exclude: tuple[str, ...] = ()
    fail_on: str | None = None
    pg_version: int | None = None
    levels: Mapping[str, Level | None] = field(default_factory=dict)


def read_settings(table: object, *, rules: Collection[str], dialects: Collection[str]) -> LintSettings:
    """Return the settings of a table `[lint]`.

    Args:
        table: The parsed table.
        rules: Names of every rule.
        dialects: Values that `dialect` may have.

    Raises:
        LintSettingsError: With every problem.
    """
    if not isinstance(table, dict):
        raise LintSettingsError("expected a table [lint], got a value of this name")
    problems = [
        f"expected settings of [lint] among dialect, exclude, fail-on, pg-version, rules; got {key!r}"
        for key in table
        if key not in {"dialect", "exclude", "fail-on", "pg-version", "rules"}
    ]
    dialect, exclude, fail_on = table.get("dialect"), table.get("exclude", []), table.get("fail-on")
    version = table.get("pg-version")
    if dialect is not None and dialect not in dialects:
        problems.append(f"expected dialect of [lint] among {', '.join(sorted(dialects))}; got {dialect!r}")
    if not isinstance(exclude, list) or not all(isinstance(pattern, str) for pattern in exclude):
        problems.append("expected exclude of [lint] to be a list of patterns")
    if fail_on is not None and fail_on not in FAIL_ON:
        problems.append(f"expected fail-on of [lint] among {', '.join(FAIL_ON)}; got {fail_on!r}")
    if version is not None and (
        isinstance(version, bool) or not isinstance(version, int) or not OLDEST_VERSION <= version <= NEWEST_VERSION
    ):
        problems.append(f"expected pg-version of [lint] to be a major version such as 15; got {version!r}")
    levels = dict(_levels(table.get("rules", {}), rules, problems))
    if problems:
        raise LintSettingsError(*problems)
    return LintSettings(dialect, tuple(exclude), fail_on, version, levels)


def _levels(table: object, rules: Collection[str], problems: list[str]) -> Iterator[tuple[str, Level | None]]:
    if not isinstance(table, dict):
        problems.append("expected a table [lint.rules], got a value of this name")
        return
    for name, value in table.items():
        rule = str(RENAMED.get(name, name))
        if rule not in rules:
            problems.append(f"expected names of rules in [lint.rules] (`--rules` lists them), got {name!r}")
        elif value == OFF:
            yield rule, None
        elif isinstance(value, str) and value in set(Level):
            yield rule, Level(value)
        else:
            problems.append(f"expected {name} of [lint.rules] among {', '.join(Level)}, {OFF}; got {value!r}")


def read_policy(directory: Path, *, rules: Collection[str]) -> Policy:
    """Return the policy in lint.toml of a directory; an empty one where there is no such file.

    Raises:
        LintSettingsError: With every problem of the file.
    """
    path = directory / POLICY_FILE
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Policy()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LintSettingsError(f"{path}: {error}") from error
    problems = [
        f"expected [[allow]] and [baseline], got {key!r}" for key in document if key not in {"allow", "baseline"}
    ]
    allowances = tuple(_allowances(document.get("allow", []), rules, problems))
    baseline = dict(_baseline(document.get("baseline", {}), problems))
    if problems:
        raise LintSettingsError(*(f"{path}: {problem}" for problem in problems))
    return Policy(allowances=allowances, baseline=baseline)


def _allowances(entries: object, rules: Collection[str], problems: list[str]) -> Iterator[Allowance]:
    form = 'file = "NAME or pattern", rules = ["RULE"], because = "REASON"'
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], start=1):
        match entry:
            case {"file": str(file), "rules": [_, *_] as named, "because": str(reason), **rest} if not rest:
                known = frozenset(RENAMED.get(str(rule), str(rule)) for rule in named)
                if strange := sorted(known - frozenset(rules)):
                    problems.append(f"expected names of rules in [[allow]] number {number}, got {', '.join(strange)}")
                elif not reason.strip():
                    problems.append(f"expected a reason in `because` of [[allow]] number {number}, got none")
                else:
                    yield Allowance(file, known)
            case _:
                problems.append(f"expected [[allow]] number {number} to have {form}")


def _baseline(table: Any, problems: list[str]) -> Iterator[tuple[tuple[str, str], frozenset[str]]]:
    for file, entries in table.items() if isinstance(table, dict) else [("", None)]:
        for entry in entries if isinstance(entries, list) else [entries]:
            match entry.split() if isinstance(entry, str) else []:
                case [fingerprint, *broken] if broken:
                    yield (file, fingerprint), frozenset(broken)
                case _:
                    problems.append(f"expected [baseline] as --write-baseline writes it, got {entry!r} for {file!r}")


def write_baseline(directory: Path, findings: Iterable[Finding], *, names: Mapping[str, str]) -> int:
    """Write the findings into lint.toml as its baseline, and keep what stands above it.

    Args:
        directory: The directory of the migrations.
        findings: Every finding that is not to be reported again.
        names: The path below the directory of each file, by its path in findings.

    Returns:
        How many findings the baseline has.
    """
    entries: dict[str, dict[str, set[str]]] = {}
    count = 0
    for finding in findings:
        count += 1
        of_file = entries.setdefault(names.get(finding.path, finding.path), {})
        of_file.setdefault(finding.fingerprint, set()).update(reason.rule for reason in finding.reasons)
    lines = []
    for file, statements in sorted(entries.items()):
        items = [" ".join((fingerprint, *sorted(rules))) for fingerprint, rules in sorted(statements.items())]
        written = ",\n".join(f"    {json.dumps(item)}" for item in items)
        lines.append(f"{json.dumps(file, ensure_ascii=False)} = [\n{written},\n]\n")
    path = directory / POLICY_FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    head = text.partition(_BASELINE_HEAD)[0] if _BASELINE_HEAD in text else text.partition("[baseline]")[0]
    head = f"{head.rstrip()}\n\n" if head.strip() else ""
    path.write_text(head + _BASELINE_HEAD + "".join(lines), encoding="utf-8")
    return count
