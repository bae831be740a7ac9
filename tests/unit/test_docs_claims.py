"""The claims of docs/ about tests, names, links and revisions are true."""

from __future__ import annotations

import ast
import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / f"{each}.md" for each in ("README", "CONTRIBUTING", "SECURITY")),
]
_TEST = re.compile(r"`((?:tests/)?[\w/]+\.py)::(test_\w+)`")
_FILE = re.compile(r"`(tests/[\w/]+\.py)`")
_LONG = re.compile(r"\b(?P<name>[\w.]+)\+(?P<count>\d+)\.(?P<digest>[0-9a-f]{12})\b")
_LINK = re.compile(r"\]\((?!https?:)(?P<target>[^)#\s]*)(?:#(?P<anchor>[^)]*))?\)")
DIRECTORIES = ["demo", "manifests/examples/cliscale/controller/src/migrations"]
"""Where the migrations of revisions with a COUNT above 1 are."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_test_that_a_page_names_is_there(page: Path) -> None:
    """Each `file.py::test_name` is a test of that file, and each `tests/file.py` a file."""
    text = page.read_text(encoding="utf-8")
    for file, function in _TEST.findall(text):
        module = ROOT / "tests" / file.removeprefix("tests/")
        assert module.exists(), file
        tree = ast.parse(module.read_text(encoding="utf-8"))
        found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert function in found, f"{file}::{function}"
    assert [file for file in _FILE.findall(text) if not (ROOT / file).exists()] == []


def test_every_failure_mode_names_its_test() -> None:
    """Every row of docs/failure-modes.md names a test that shows it, and says of nothing that it is not tested."""
    page = (ROOT / "docs/failure-modes.md").read_text(encoding="utf-8")
    heads = ("| what fails", "| claim")
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith(heads)]
    assert len(rows) > 25
    assert [row for row in rows if not _TEST.search(row.split("|")[-2]) or "not tested" in row] == []


def test_the_reference_has_every_annotation_and_label() -> None:
    """Each name under ledgergate.dev/ that the code uses stands in docs/reference.md."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "webhook").rglob("*.py"))
    names = set(re.findall(r"\"((?:[a-z]+\.)?ledgergate\.dev/[a-z-]*)\"", source))
    page = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    assert len(names) > 8
    assert [each for each in sorted(names) if f"`{each}" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_revision_that_a_page_shows_can_be_copied(page: Path) -> None:
    """The digest of `NAME+COUNT.DIGEST` is that of its names: a wrong one would be `Incomplete`."""
    for found in _LONG.finditer(page.read_text(encoding="utf-8")):
        known = [[found["name"]]] if found["count"] == "1" else list(up_to(found["name"]))
        digests = {hashlib.sha256("".join(f"{each}\n" for each in names).encode()).hexdigest()[:12] for names in known}
        assert found["digest"] in digests, found[0]


def up_to(revision: str) -> list[list[str]]:
    """The names up to a revision, for each directory that has it."""
    found = []
    for directory in DIRECTORIES:
        stems = sorted({path.stem for path in (ROOT / directory).rglob("[0-9]*_*") if path.is_file()})
        if revision in stems:
            found.append(stems[: stems.index(revision) + 1])
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_their_anchors_lead_somewhere(page: Path) -> None:
    """Every file that a page links to is there, with the heading that the link names."""
    for link in _LINK.finditer(page.read_text(encoding="utf-8")):
        target = (page.parent / link["target"]).resolve() if link["target"] else page
        assert target.exists(), link[0]
        if link["anchor"]:
            assert link["anchor"] in anchors(target), link[0]


def test_the_index_has_every_page() -> None:
    """A newcomer finds each page from docs/README.md, whose table is no longer than about ten lines."""
    text = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / link["target"]).resolve() for link in _LINK.finditer(text)}
    assert [name(page) for page in PAGES if page not in linked | {ROOT / "docs/README.md", ROOT / "README.md"}] == []
    assert len(text.splitlines()) <= 15


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
