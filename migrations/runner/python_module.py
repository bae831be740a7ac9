"""Loads Python migrations: by path, under a private name, never as a package that is on the path."""

from __future__ import annotations

import sys
import traceback
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from migrations.core.migration import Migration


def load_function(migration: Migration, name: str) -> Callable[[object], Awaitable[None]]:
    """Load the module and give its function, leaving no bytecode beside it.

    Raises:
        Exception: Whatever the module raises while it is loaded.
    """
    private = f"_ledgergate_migration_{migration.revision}"
    loader = SourceFileLoader(private, str(migration.path))
    module = module_from_spec(ModuleSpec(private, loader, origin=str(migration.path)))
    module.__file__ = str(migration.path)
    sys.modules[private] = module  # dataclasses and pickle look a class's module up
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    found: Callable[[object], Awaitable[None]] = getattr(module, name)
    return found


def describe_error(path: Path, error: BaseException) -> str:
    """Say what a module raised, with the line of the file on which it did."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1] if lines else 1}: {type(error).__name__}: {error}"
