"""Scripts as migration files, and the findings in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from migrations.files.native import parse
from migrations.lint.linter import lint
from migrations.lint.scripts.native import native_script

if TYPE_CHECKING:
    from migrations.lint.finding import Finding, Reason
    from migrations.lint.script import Script

DOWN = "\n-- migrate:down\nselect 1;\n"


def parse_files(*texts: str) -> list[Script]:
    """Parse the texts of whole files, in order."""
    numbered = ((Path(f"{20250101000000 + number}_x.sql"), text) for number, text in enumerate(texts))
    return [native_script(parse(path, text.encode()), text.removeprefix("\ufeff")) for path, text in numbered]


def up(sql: str, options: str = "") -> str:
    """Return the text of a file with an up section."""
    return f"-- migrate:up {options}\n{sql}{DOWN}"


def findings(*texts: str, version: int | None = None) -> list[Finding]:
    """Lint the texts of whole files; return the findings in the last one."""
    files = parse_files(*texts)
    return [finding for finding in lint(files, version=version) if finding.path == files[-1].path]


def reasons(*texts: str, version: int | None = None) -> list[Reason]:
    """Return the rules that the last file breaks, with what they say."""
    return [reason for finding in findings(*texts, version=version) for reason in finding.reasons]


def rules(*texts: str, version: int | None = None) -> list[str]:
    """Return the names of the rules that the last file breaks, without short locks, which most statements take."""
    return [reason.rule for reason in reasons(*texts, version=version) if reason.rule != "short-lock"]
