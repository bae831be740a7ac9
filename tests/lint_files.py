"""Scripts as migration files, and the findings in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from migrations.files.native import parse
from migrations.lint.linter import File, lint

if TYPE_CHECKING:
    from migrations.lint.finding import Finding

DOWN = "\n-- migrate:down\nselect 1;\n"


def parse_files(*texts: str) -> list[File]:
    """Parse the texts of whole files, in order."""
    numbered = ((Path(f"{20250101000000 + number}_x.sql"), text) for number, text in enumerate(texts))
    return [File(parse(path, text.encode()), text) for path, text in numbered]


def up(sql: str, options: str = "") -> str:
    """Return the text of a file with an up section."""
    return f"-- migrate:up {options}\n{sql}{DOWN}"


def findings(*texts: str) -> list[Finding]:
    """Lint the texts of whole files; return the findings in the last one."""
    files = parse_files(*texts)
    return [finding for finding in lint(files) if finding.path == str(files[-1].migration.path)]


def rules(*texts: str) -> list[str]:
    """Return the names of the rules that the last file breaks."""
    return [finding.rule for finding in findings(*texts)]
