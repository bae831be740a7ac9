"""Drizzle's directory: a journal that lists the migrations, or since its version 1 a folder for each of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from migrations.files.external import ExternalFilesError, list_names

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_JOURNAL = "meta/_journal.json"
_STAMP = "%Y%m%d%H%M%S"


def _names(directory: Path) -> Iterable[str]:
    journal = directory / _JOURNAL
    if journal.exists():
        return _entries(directory, journal)
    # Drizzle 1 takes every folder with a migration.sql. The ledger records the time in the folder's name.
    folders = sorted(path.name for path in directory.iterdir() if (path / "migration.sql").exists())
    if not folders:
        raise ExternalFilesError(f"expected {journal} or folders with a migration.sql as drizzle-kit writes them")
    if strange := [name for name in folders if _milliseconds(name) is None]:
        raise ExternalFilesError(
            *(f"{directory / name}: expected a name like 20250126120000_add_users" for name in strange)
        )
    return [str(_milliseconds(name)) for name in folders]


def _entries(directory: Path, journal: Path) -> list[str]:
    try:
        entries: list[dict[str, Any]] = json.loads(journal.read_text(encoding="utf-8"))["entries"]
        found = [(str(int(entry["when"])), str(entry["tag"])) for entry in sorted(entries, key=lambda e: e["idx"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExternalFilesError(f"expected {journal} as drizzle-kit writes it: {error}") from error
    missing = [f"{tag}.sql" for _, tag in found if not (directory / f"{tag}.sql").exists()]
    if missing:
        raise ExternalFilesError(*(f"expected {directory / name}, which {journal} lists" for name in missing))
    return [when for when, _ in found]


def _milliseconds(name: str) -> int | None:
    """Return the time of a folder's name in milliseconds since 1970; None for another name."""
    try:
        return int(datetime.strptime(name[:14], _STAMP).replace(tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        return None


list_drizzle = partial(list_names, _names, _JOURNAL)
"""List Drizzle's migrations by what its ledger keeps: when each was generated, in milliseconds since 1970.

Source: `readMigrationFiles` of drizzle-orm, versions 0.45 and 1.0
"""
