"""The dialect that `--dialect` names, and the migrations of a directory as that dialect's tool finds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from migrations.core.migration import FilesError, Migration, SectionBody
from migrations.core.revision import canonical
from migrations.files import native
from migrations.files.external import ExternalFilesError

if TYPE_CHECKING:
    from migrations.core.declaration import Declaration
    from migrations.dialects.dialect import Dialect


def select_dialect(name: str | None) -> Dialect:
    """Return the dialect that a flag names, without one the native dialect.

    Raises:
        DialectError: There is no dialect of this name.
    """
    from migrations.dialects.catalogue import find_dialect  # noqa: PLC0415 - `revision` mostly does without
    from migrations.dialects.native import NATIVE  # noqa: PLC0415

    return find_dialect(name) if name else NATIVE


def list_revisions(dialect: Dialect, directory: Path, *, required: bool = True) -> tuple[str, ...]:
    """Return the names of a directory's migrations, in the dialect's order.

    Args:
        dialect: The tool's dialect.
        directory: Where the tool looks for migrations.
        required: Whether a directory that is missing, or does not name its migrations, is an error; otherwise it
            counts as empty.

    Raises:
        FilesError: A native directory has problems.
        ExternalFilesError: Another tool's directory has problems.
    """
    try:
        return tuple(dialect.directory(directory))
    except (FilesError, ExternalFilesError):
        # A native directory that is there has to be right; other tools' files may be missing from this image.
        if required or (dialect.name == "ledgergate" and directory.is_dir()):
            raise
        return ()


def list_migrations(dialect: Dialect, directory: Path, *, required: bool = True) -> tuple[Migration, ...]:
    """Return a directory's migrations; those of another tool have a name and nothing else. As `list_revisions`."""
    if dialect.name == "ledgergate" and directory.is_dir():
        return native.load_directory(directory)
    names = list_revisions(dialect, directory, required=required)
    return tuple(Migration(canonical(name), Path(name), "", SectionBody(None)) for name in names)


def declare_directory(directory: Path, dialect: str | None) -> tuple[Declaration, tuple[str, ...]]:
    """Return what an image with a directory declares, and the names of the migrations before the one that it needs.

    Args:
        directory: Where the tool looks for migrations.
        dialect: Name of the tool's dialect; None for the native one.

    Raises:
        DialectError: There is no dialect of this name.
        FilesError: A native directory has problems.
        ExternalFilesError: Another tool's directory has problems.
        RevisionError: There is no migration.
        ContractError: The name of a contract migration cannot be written in a label.
    """
    from migrations.core.contract import needed, newest_contracts  # noqa: PLC0415 - `up` does without
    from migrations.core.declaration import Declaration  # noqa: PLC0415
    from migrations.core.ledger import History  # noqa: PLC0415

    selected = select_dialect(dialect)
    migrations = list_migrations(selected, directory)
    names = tuple(migration.revision for migration in needed(migrations))
    ancestors = names[:-1] if selected.history is History.HEADS else None
    return Declaration(selected.declare(names), newest_contracts(migrations), ancestors), names[:-1]
