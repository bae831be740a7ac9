"""Sections of docs/ that restate code are generated from it, and are up to date."""

from pathlib import Path

import pytest
import yaml

from docs.generate import CRD, ROOT, fields, pages, render

GENERATED = {
    "docs/hardening.md": {"rights"},
    "docs/lint.md": {"rules"},
    "docs/reference.md": {"spec", "status"},
    "docs/versions.md": {"versions"},
}


def test_the_pages_with_generated_sections_are_known() -> None:
    """No page lost its markers: without them it would never be renewed."""
    assert {str(path.relative_to(ROOT)) for path in pages()} == set(GENERATED)
    for page, names in GENERATED.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        assert all(f"<!-- generated: {name}, by `make docs` -->" in text for name in names)


@pytest.mark.parametrize("page", GENERATED)
def test_a_generated_section_is_up_to_date(page: str) -> None:
    """`make docs` would change nothing."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert render(text) == text, f"{page} is out of date: run `make docs`"


def test_the_reference_has_every_field_of_the_crd() -> None:
    """Each field that the API server prunes or keeps has a row, with its default."""
    page = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    schema = yaml.safe_load(CRD.read_text(encoding="utf-8"))["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        for path, field, _ in fields(schema["properties"][part]):
            assert path in rows, path
            assert f"`{field['default']}`" in rows[path] if "default" in field else True, path


def test_a_page_without_markers_stays_as_it_is(tmp_path: Path) -> None:
    """A page without markers is returned as it is."""
    page = tmp_path / "page.md"
    page.write_text("# Page\n\ntext\n")
    assert render(page.read_text()) == "# Page\n\ntext\n"
