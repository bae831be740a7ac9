"""The page about the architecture knows every module."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


@pytest.mark.parametrize("package", ["webhook", "migrations", "certs"])
def test_every_module_has_its_line(package: str) -> None:
    """Who looks for a module's one job finds it; a folder may have one line for all that is in it."""
    modules = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}
    folders = {f"{path.parent.name}/" for path in (ROOT / package).glob("*/__init__.py")}
    table = PAGE.partition(f"\n| {package}/ |")[2].partition("\n\n")[0]
    assert table
    assert [name for name in sorted(modules | folders) if f"`{name}`" not in table] == []
