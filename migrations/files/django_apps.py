"""A Django project: a package `migrations` in each application, whose files name what they depend on."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from migrations.files.external import ExternalFilesError, list_names, walk
from migrations.files.python_source import literals, parse_python

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_PACKAGE = "migrations"


@dataclass(frozen=True, slots=True)
class _File:
    """A migration: what it depends on as APP.NAME, as far as that is literal."""

    path: Path
    needs: frozenset[str]


def _names(directory: Path) -> Iterable[str]:
    problems: list[str] = []
    files: dict[str, _File] = {}
    for label, package in _packages(directory, problems):
        for path in sorted(package.iterdir()):
            if path.suffix != ".py" or path.name[0] in "_~" or "." in path.stem or path.is_dir():
                continue  # `pkgutil.iter_modules` and Django's loader skip these
            try:
                migration = _class(parse_python(path), "Migration")
            except ValueError as error:
                problems.append(str(error))
                continue
            name = f"{label}.{path.stem}"
            if migration is None and not _may_define(path):
                problems.append(f"{path}: expected a class Migration, which Django needs in each module of the package")
            elif name in files:
                problems.append(f"{files[name].path} and {path} are both {name}: two applications have one label")
            else:
                files[name] = _File(path, _needs(migration))
    if problems:
        raise ExternalFilesError(*problems)
    return _sorted(files)


def _packages(directory: Path, problems: list[str]) -> list[tuple[str, Path]]:
    """Return the packages of migrations with their applications' labels, except in installed packages.

    A folder without `__init__.py` does not count. MIGRATION_MODULES may name another package for a label, or None.
    """
    sources = [path for path in walk(directory, foreign=False) if path.suffix == ".py"]
    packages = [
        path.parent for path in sources if path.name == "__init__.py" and path.parent.resolve().name == _PACKAGE
    ]
    found = [(_label(package.parent.resolve()), package) for package in sorted(packages)]
    moved = _moved(directory, sources, problems)
    return [(label, package) for label, package in found if label not in moved] + [
        (label, package) for label, package in moved.items() if package is not None
    ]


def _moved(directory: Path, sources: Iterable[Path], problems: list[str]) -> Mapping[str, Path | None]:
    """Return the packages that MIGRATION_MODULES of the project's settings names, as far as it is literal, by label.

    Settings for tests do not count: they mostly switch migrations off.
    """
    moved: dict[str, Path | None] = {}
    for path in sources:
        is_settings = "settings" in path.stem or path.parent.name == "settings"
        if not is_settings or "test" in path.stem or b"MIGRATION_MODULES" not in path.read_bytes():
            continue
        try:
            modules = literals(parse_python(path).body).get("MIGRATION_MODULES")
        except ValueError as error:
            problems.append(str(error))
            continue
        for label, module in modules.items() if isinstance(modules, dict) else ():
            if module is None:
                moved[label] = None
                continue
            roots = [directory, *(parent for parent in path.parents if parent.is_relative_to(directory))]
            package = next((p for root in roots if (p := root.joinpath(*str(module).split("."))).is_dir()), None)
            if package is None:
                problems.append(f"{path}: MIGRATION_MODULES names {module} for {label}, which is not in {directory}")
            else:
                moved[label] = package
    return moved


def _label(application: Path) -> str:
    """Return an application's label: the directory's name, unless its AppConfig has another.

    Of several AppConfigs, Django takes the one with `default = True`; without such a one it takes none.
    """
    try:
        classes = [node for node in parse_python(application / "apps.py").body if isinstance(node, ast.ClassDef)]
    except (OSError, ValueError):
        return application.name
    configs = [literals(node.body) for node in classes if node.bases]
    chosen = configs if len(configs) == 1 else [config for config in configs if config.get("default") is True]
    label = chosen[0].get("label") if len(chosen) == 1 else None
    return label if isinstance(label, str) else application.name


def _class(module: ast.Module, name: str) -> ast.ClassDef | None:
    return next((node for node in ast.walk(module) if isinstance(node, ast.ClassDef) and node.name == name), None)


def _may_define(path: Path) -> bool:
    """Return whether the file makes or imports `Migration` in another way than by a class statement."""
    content = path.read_bytes()
    return b"Migration" in content or b"import *" in content


def _needs(migration: ast.ClassDef | None) -> frozenset[str]:
    """Return what a migration depends on or replaces; what is computed, such as a swappable model, is left out."""
    found: set[str] = set()
    for node in migration.body if migration else ():
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id in {"dependencies", "replaces"} for target in node.targets
        ):
            for pair in ast.walk(node.value):
                match pair:
                    case ast.Tuple(elts=[ast.Constant(value=str(app)), ast.Constant(value=str(name))]):
                        found.add(f"{app}.{name}")
    return frozenset(found)


def _sorted(files: Mapping[str, _File]) -> Iterable[str]:
    """Sort topologically, as far as dependencies are known; by number and name among those that could come next."""
    done: dict[str, None] = {}
    rest = sorted(files, key=lambda name: (files[name].path.stem[:4], name))
    while rest:
        known = files.keys() - done.keys()
        ready = [name for name in rest if not files[name].needs & known - {name}]
        done |= dict.fromkeys(ready or rest)  # a cycle: Django reports it
        rest = [name for name in rest if name not in done]
    return done


list_django = partial(list_names, _names, "APP/migrations/0001_initial.py")
"""List a Django project's migrations as APP.NAME, each after what it depends on.

Source: `MigrationLoader.load_disk` of Django, and
https://docs.djangoproject.com/en/stable/ref/applications/#django.apps.AppConfig.label
"""
