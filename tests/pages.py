"""The pages of docs/, as tests read them: their blocks, their links, and a shell that runs what they show."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)(?P<target>[^)#]+)(?:#[^)]*)?\)")
MARK = "# run\n"


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of a page in one language, in its order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [block["text"] for block in _BLOCK.finditer(text) if block["language"] == language]


def marked(page: str, mark: str = MARK) -> list[str]:
    """Return the blocks of a page that a test runs."""
    return [text for text in blocks(page, "sh") if text.startswith(mark)]


def links(page: str) -> list[Path]:
    """Return the files that a page links to."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [(DOCS / page).parent / link["target"] for link in _LINK.finditer(text)]


def walk(page: str, directory: Path, environment: Mapping[str, str], mark: str = MARK) -> str:
    """Run a page's marked blocks in one shell that stops at the first command that fails.

    Args:
        page: name within docs/.
        directory: where the shell begins.
        environment: the shell's.
        mark: how the blocks begin.

    Returns:
        What they printed.
    """
    shown = marked(page, mark)
    assert shown, f"{page} has no block that begins with {mark.strip()}"
    # The shell ends itself when it hangs: then what it has printed so far shows where.
    done = subprocess.run(
        ["timeout", "800", "bash", "-c", "\n".join(("set -euo pipefail", "set -x", *shown))],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout
