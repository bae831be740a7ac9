"""Scripts as a directory of migrations, and what lint finds in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from migrations.files.native import parse
from migrations.lint.linter import File, lint

if TYPE_CHECKING:
    from migrations.lint.finding import Finding

DOWN = "\n-- migrate:down\nselect 1;\n"


def read(*texts: str) -> list[File]:
    """Give whole files, in order."""
    numbered = ((Path(f"{20250101000000 + number}_x.sql"), text) for number, text in enumerate(texts))
    return [File(parse(path, text.encode()), text) for path, text in numbered]


def up(sql: str, options: str = "") -> str:
    """Give the text of a file with an up section."""
    return f"-- migrate:up {options}\n{sql}{DOWN}"


def findings(*texts: str) -> list[Finding]:
    """Lint whole files; gives what is found in the last."""
    files = read(*texts)
    return [finding for finding in lint(files) if finding.path == str(files[-1].migration.path)]


def rules(*texts: str) -> list[str]:
    """Give the rules that the last of some files breaks."""
    return [finding.rule for finding in findings(*texts)]
