"""Alembic's script directory: one file for each revision, which names the revisions that it builds on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from migrations.files.alembic_settings import find_settings
from migrations.files.external import ExternalFilesError, list_names, walk
from migrations.files.python_source import literals, parse_python

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_SCRIPT = re.compile(r"(?!\.#|__init__).*\.py", re.DOTALL)
_NAMED_BY_FILE = re.compile(r"([a-f0-9]+)\.py")  # before Alembic 0.2, files did not name their revision


@dataclass(frozen=True, slots=True)
class _Script:
    """A revision: its file, the revisions that it is based on and depends on, and the labels of its branch."""

    path: Path
    bases: tuple[str, ...]
    needs: tuple[str, ...]
    labels: tuple[str, ...]


def _names(directory: Path) -> Iterable[str]:
    if (directory / "env.py").is_file() and (directory / "versions").is_dir():
        directory /= "versions"  # the script directory itself was named
    scripts, problems = _read(directory)
    parents = {revision: _parents(script, scripts) for revision, script in scripts.items()}
    problems += [
        f"{revision} builds on {parent}, which has no file in {directory}"
        for revision, needed in parents.items()
        for parent in needed
        if parent not in scripts
    ]
    heads = parents.keys() - {parent for needed in parents.values() for parent in needed}
    if len(heads) > 1:
        problems.append(
            f"expected one head, found {' and '.join(sorted(heads))}; `alembic merge heads` joins them; or each has a "
            "LedgerGate, and a pod declares them by the annotations `revision.ledgergate.dev/GATE`"
        )
    if problems:
        raise ExternalFilesError(*problems)
    return _sorted(parents, directory)


def _read(directory: Path) -> tuple[dict[str, _Script], list[str]]:
    """Read every revision; also return what is wrong with files."""
    scripts: dict[str, _Script] = {}
    problems: list[str] = []
    for path, required in _files(directory):
        try:
            known = literals(parse_python(path).body)
        except ValueError as error:
            problems.append(str(error))
            continue
        revision = known.get("revision")
        if revision is None and not required:
            continue  # a helper in a subdirectory, which Alembic may not look into
        if revision is None and (match := _NAMED_BY_FILE.fullmatch(path.name)):
            revision = match[1]
        related = {key: known.get(key) for key in ("down_revision", "depends_on", "branch_labels")}
        unknown = [key for key, value in related.items() if not isinstance(value, str | tuple | list | set | None)]
        if not isinstance(revision, str):
            problems.append(f"{path}: expected revision = '...' in it, which Alembic needs; move other files elsewhere")
        elif unknown:
            problems.append(f"{path}: expected {' and '.join(unknown)} to be literal, not the result of an expression")
        elif revision in scripts:
            problems.append(f"{scripts[revision].path} and {path} are both revision {revision}")
        else:
            scripts[revision] = _Script(path, *(_texts(value) for value in related.values()))
    return scripts, problems


def _files(directory: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the files that Alembic loads, and whether each must be a revision.

    Without Alembic's settings it is not known whether it searches subdirectories. A file in one then counts if it
    defines a revision.
    """
    settings = find_settings(directory)
    named = directory.resolve()
    several = settings is not None and any(location.is_relative_to(named) for location in settings.locations)
    seen: set[Path] = set()
    for location in settings.locations if settings and several else (directory,):
        for path in walk(location, foreign=False):
            nested = path.parent != location
            if _SCRIPT.fullmatch(path.name) and not (nested and settings and not settings.recursive):
                if path.resolve() not in seen:
                    yield path, not nested or settings is not None
                seen.add(path.resolve())


def _texts(value: str | Iterable[object] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(map(str, value))


def _parents(script: _Script, scripts: Mapping[str, _Script]) -> Sequence[str]:
    """Return the revisions that a revision is based on, and those in other branches that it depends on.

    A dependency is given by name or by a branch's label. A revision on which another depends is no head in Alembic's
    table.
    """
    labelled = {label: name for name, each in scripts.items() for label in each.labels}
    return script.bases + tuple(labelled.get(name, name) if name not in scripts else name for name in script.needs)


def _sorted(parents: Mapping[str, Sequence[str]], directory: Path) -> Iterable[str]:
    """Sort topologically. Those that could come next are sorted, so that the result depends on the files alone."""
    done: dict[str, None] = {}
    while len(done) < len(parents):
        ready = sorted(name for name, needed in parents.items() if name not in done and done.keys() >= set(needed))
        if not ready:
            raise ExternalFilesError(f"expected revisions that build on each other, found a cycle in {directory}")
        done |= dict.fromkeys(ready)
    return done


list_alembic = partial(list_names, _names, "1975ea83b712_add_users.py")
"""List Alembic's revision identifiers so that each comes after all that it is based on.

Source: `ScriptDirectory._list_py_dir` and `Script._from_path` of Alembic, and
https://alembic.sqlalchemy.org/en/latest/branches.html
"""
