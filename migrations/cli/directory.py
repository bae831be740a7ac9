"""The dialect that `--dialect` names, and the migrations of a directory as that dialect's tool finds them."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrations.cli.conventions import flag
from migrations.cli.options import CONTRACT_PHASE
from migrations.core.ledger import History
from migrations.core.migration import FilesError, Migration, SectionBody
from migrations.core.revision import canonical
from migrations.files import native
from migrations.files.external import ExternalFilesError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.core.declaration import Declaration
    from migrations.dialects.dialect import Dialect


def select_dialect(name: str | None) -> Dialect:
    """Return the dialect that a flag names; the native one without the flag.

    Raises:
        DialectError: There is no dialect of this name.
    """
    from migrations.dialects.catalogue import find_dialect  # noqa: PLC0415 - `revision` mostly does without
    from migrations.dialects.native import NATIVE  # noqa: PLC0415

    return find_dialect(name) if name else NATIVE


extension_flag = flag(
    "--extension",
    "Extension of the migrations' files, such as .mjs, where the tool is configured to load others than by default "
    "(Knex: loadExtensions). Give it once for each.",
    "extensions",
    multiple=True,
    metavar="EXT",
)


def list_revisions(
    dialect: Dialect, directories: Sequence[Path], extensions: Sequence[str] = (), *, required: bool = True
) -> tuple[str, ...]:
    """Return the names of the migrations of one or more directories, in the dialect's order.

    Args:
        dialect: The tool's dialect.
        directories: Where the tool looks for migrations.
        extensions: Those that the tool is configured to load; none for its default.
        required: Whether a directory that is missing, or does not name its migrations, is an error; otherwise it
            counts as empty.

    Raises:
        FilesError: A native directory has problems.
        ExternalFilesError: Another tool's directory has problems, or the tool cannot have several.
    """
    try:
        names = _list_several(_configured(dialect, extensions), directories)
        if not extensions and dialect.by_extensions is not None:
            _warn_of_unloaded(dialect, directories, names)
        return names  # noqa: TRY300 - what is above raises too
    except (FilesError, ExternalFilesError):
        # A native directory that is there has to be right; other tools' files may be missing from this image.
        if required or (dialect.name == "ledgergate" and directories[0].is_dir()):
            raise
        return ()


def _configured(dialect: Dialect, extensions: Sequence[str]) -> Dialect:
    """Return the dialect, configured to load files with these extensions."""
    if not extensions:
        return dialect
    if dialect.by_extensions is None:
        raise ExternalFilesError(
            f"--extension is for a tool that can be configured to load other files, as knex can; {dialect.name} cannot"
        )
    return replace(dialect, directory=dialect.by_extensions([extension.lstrip(".") for extension in extensions]))


def _warn_of_unloaded(dialect: Dialect, directories: Sequence[Path], names: Sequence[str]) -> None:
    """Warn of files that the tool loads only if it is configured to: a newer migration among them would be missed."""
    for directory in directories:
        with suppress(ExternalFilesError):
            other = _configured(dialect, dialect.optional_extensions).directory(directory)
            if missed := sorted(set(other) - set(names)):
                extensions = ", ".join(f".{extension}" for extension in dialect.optional_extensions)
                text = f"{directory}: left out {', '.join(missed)}, since {dialect.name} has to be configured to load"
                click.echo(f"{text} {extensions}; if it is, name each of its extensions with --extension", err=True)


def _list_several(dialect: Dialect, directories: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of several directories as one list, as Knex's `directory: [...]` and Flyway's `locations` do."""
    if len(directories) == 1:
        return tuple(dialect.directory(directories[0]))
    if dialect.name == "ledgergate" or dialect.history in {History.HEADS, History.NUMBER}:
        raise ExternalFilesError(
            f"expected one --dir for {dialect.name}, got {len(directories)}: the order of its migrations does not show "
            "in several directories"
        )
    _refuse_repeated(directories)
    problems: list[str] = []
    found: dict[str, Path] = {}
    for directory in directories:
        try:
            names = dialect.directory(directory)
        except ExternalFilesError as error:
            problems += error.problems
            continue
        problems += [
            f"expected each migration in one directory, found {name} in {found[name]} and {directory}"
            for name in names
            if name in found
        ]
        found |= dict.fromkeys(names, directory)
    if problems:
        raise ExternalFilesError(*problems)
    if dialect.history is History.NAMES:
        return tuple(sorted(found, key=lambda name: dialect.versioning.sort_key(canonical(name))))
    return tuple(found)


def _refuse_repeated(directories: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    problems: list[str] = []
    for directory in directories:
        other = first.setdefault(os.path.realpath(directory), directory)
        if other is not directory:
            found = f"{other} again" if other == directory else f"{directory}, which is {other}"
            problems.append(f"expected each --dir once, got {found}")
    if problems:
        raise ExternalFilesError(*problems)


def list_migrations(
    dialect: Dialect, directories: Sequence[Path], extensions: Sequence[str] = (), *, required: bool = True
) -> tuple[Migration, ...]:
    """Return the migrations of directories; of another tool's, only the names are known. See `list_revisions`."""
    if dialect.name == "ledgergate" and len(directories) == 1 and directories[0].is_dir():
        return native.load_directory(directories[0])
    names = list_revisions(dialect, directories, extensions, required=required)
    return tuple(Migration(canonical(name), Path(name), "", SectionBody(None)) for name in names)


def list_phase(
    dialect: Dialect,
    directories: Sequence[Path],
    extensions: Sequence[str] = (),
    *,
    phase: str,
    required: bool = True,
) -> tuple[str, ...]:
    """Return the names of the migrations that an image needs; with the contract phase those of all its migrations.

    Other tools' files declare no contract migrations, so their images need all. Raises what `list_revisions` raises.

    Args:
        dialect: The tool's dialect.
        directories: Where the tool looks for migrations.
        extensions: Those that the tool is configured to load; none for its default.
        phase: `expand` or `contract`.
        required: As `list_revisions` takes it.
    """
    if dialect.name != "ledgergate" or phase == CONTRACT_PHASE:
        return list_revisions(dialect, directories, extensions, required=required)
    migrations = list_migrations(dialect, directories, extensions, required=required)
    return tuple(migration.revision for migration in select_phase(migrations, phase))


def select_phase(migrations: Sequence[Migration], phase: str) -> Sequence[Migration]:
    """Return the migrations that an image needs; with the contract phase all of them."""
    from migrations.core.contract import needed  # noqa: PLC0415 - only directories that are read need it

    return migrations if phase == CONTRACT_PHASE else needed(migrations)


def declare_directory(
    directories: Sequence[Path], dialect: str | None, extensions: Sequence[str] = ()
) -> tuple[Declaration, tuple[str, ...]]:
    """Return what an image with directories declares, and the names of the migrations before the one that it needs.

    Args:
        directories: Where the tool looks for migrations.
        dialect: Name of the tool's dialect; None for the native one.
        extensions: Those that the tool is configured to load; none for its default.

    Raises:
        DialectError: There is no dialect of this name.
        FilesError: A native directory has problems.
        ExternalFilesError: Another tool's directory has problems.
        RevisionError: There is no migration.
        ContractError: The name of a contract migration cannot be written in a label.
    """
    from migrations.core.contract import needed, newest_contracts  # noqa: PLC0415 - `up` does without
    from migrations.core.declaration import Declaration  # noqa: PLC0415

    selected = select_dialect(dialect)
    migrations = list_migrations(selected, directories, extensions)
    names = tuple(migration.revision for migration in needed(migrations))
    ancestors = names[:-1] if selected.history is History.HEADS else None
    return Declaration(selected.declare(names), newest_contracts(migrations), ancestors), names[:-1]
