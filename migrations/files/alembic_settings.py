"""Alembic's settings, in `alembic.ini` or `pyproject.toml`, as far as they define where revisions are."""

from __future__ import annotations

import configparser
import os
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_LEVELS = 4
"""How many directories are searched for settings: the one with the revisions and its parents."""
_SEPARATORS = {"os": os.pathsep, "space": None, "newline": "\n", ";": ";", ":": ":"}


@dataclass(frozen=True, slots=True)
class AlembicSettings:
    """Where Alembic looks for revisions.

    Attributes:
        recursive: Whether in subdirectories too.
        locations: Every directory, where the settings list them, without links in their paths.
    """

    recursive: bool
    locations: tuple[Path, ...]


def find_settings(directory: Path) -> AlembicSettings | None:
    """Return the settings next to a directory or above it; None where there are none.

    Source: https://alembic.sqlalchemy.org/en/latest/tutorial.html#editing-the-ini-file
    """
    absolute = directory.resolve()
    for folder in [absolute, *absolute.parents][:_LEVELS]:
        for settings in (_ini(folder / "alembic.ini"), _toml(folder / "pyproject.toml")):
            if settings is not None:
                return AlembicSettings(
                    str(settings.get("recursive_version_locations", False)).lower() in {"1", "true", "yes", "on"},
                    tuple(path for text in _locations(settings) if (path := _path(folder, text)).is_dir()),
                )
    return None


def _ini(path: Path) -> Mapping[str, object] | None:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error):
        return None
    return dict(parser["alembic"]) if "alembic" in parser else None


def _toml(path: Path) -> Mapping[str, object] | None:
    try:
        tool = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError):
        return None
    settings = tool.get("alembic") if isinstance(tool, dict) else None
    return settings if isinstance(settings, dict) else None


def _locations(settings: Mapping[str, object]) -> Iterable[str]:
    listed = settings.get("version_locations")
    if isinstance(listed, list):
        return map(str, listed)
    text = str(listed or "")
    named = str(settings.get("path_separator") or settings.get("version_path_separator") or "")
    parts = text.split(_SEPARATORS[named]) if named in _SEPARATORS else re.split(", *| +", text)
    return filter(None, map(str.strip, parts))


def _path(folder: Path, text: str) -> Path:
    return (folder / text.replace("%(here)s", str(folder))).resolve()
