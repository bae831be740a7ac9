"""The page about the architecture names every room and every module of each package."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = ("migrations", "webhook", "certs")


def documented(package: str) -> dict[str, set[str]]:
    """Return the modules that the page names, by room."""
    section = PAGE.partition(f"\n## {package}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in section.splitlines() if "|" in line]
    return {room.strip("`()"): set(re.findall(r"`(\w+)`", modules)) for room, _, modules in rows[2:]}


def existing(package: str) -> dict[str, set[str]]:
    """Return the modules that there are, by room."""
    rooms: dict[str, set[str]] = {}
    for path in (ROOT / package).rglob("*.py"):
        room = "top" if path.parent.name == package else path.parent.name
        rooms.setdefault(room, set()).add(path.stem)
    return {room: modules - {"__init__"} for room, modules in rooms.items() if modules - {"__init__"}}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_names_what_there_is(package: str) -> None:
    """A newcomer finds every module in its room, and no module that is gone."""
    assert documented(package) == existing(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_are_small(package: str) -> None:
    """No room has more than 20 modules."""
    assert {room: len(modules) for room, modules in existing(package).items() if len(modules) > 20} == {}


@pytest.mark.parametrize("folder", [*PACKAGES, "testbed", "tests", "bench", "demo", "docs"])
def test_files_are_short(folder: str) -> None:
    """No Python file has more than 400 lines, whether it is the product's, a test or a tool."""
    files = [path for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts]
    assert files
    assert [str(path) for path in files if len(path.read_text().splitlines()) > 400] == []


def test_every_module_that_a_walk_names_exists() -> None:
    """The four walks lead through modules that are there."""
    walks = PAGE.partition("## Four walks")[2].partition("## Decisions")[0]
    named = set(re.findall(r"`((?:migrations|webhook|certs)(?:\.\w+)+)`", walks))
    assert len(named) > 20
    missing = [
        name
        for name in sorted(named)
        if not (path := ROOT / name.replace(".", "/")).is_dir() and not path.with_suffix(".py").is_file()
    ]
    assert missing == []


def test_no_class_name_is_defined_twice_in_a_package() -> None:
    """A class name means one thing in its package."""
    for package in PACKAGES:
        names = [
            name
            for path in (ROOT / package).rglob("*.py")
            for name in re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE)
        ]
        assert sorted({name for name in names if names.count(name) > 1}) == []
