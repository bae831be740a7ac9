"""`ledgergate migrate lint` on files that a test writes."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

from migrations.cli.lint import LintFlags, lint_paths

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class LintRun(NamedTuple):
    """What a run printed, and its exit code."""

    code: int
    output: str

    @property
    def document(self) -> dict[str, Any]:
        """The output as JSON."""
        document: dict[str, Any] = json.loads(self.output)
        return document

    def found(self) -> list[tuple[str, int, str]]:
        """Return the name of the file, the line and the rule of each finding above advice."""
        return [
            (finding["path"].rpartition("/")[2], finding["line"], finding["rule"])
            for finding in self.document["findings"]
            if finding["level"] != "advice"
        ]


def run(*paths: Path | str, **flags: Any) -> LintRun:
    """Lint paths in this process; without a form of output, as JSON."""
    output = StringIO()
    with redirect_stdout(output):
        code = lint_paths(tuple(map(str, paths)), LintFlags(**{"output": "json", **flags}))
    return LintRun(code, output.getvalue())


def write(directory: Path, files: Mapping[str, str]) -> Path:
    """Write files by their paths below a directory, which is returned."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory
