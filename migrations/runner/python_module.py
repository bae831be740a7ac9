"""Python migrations as modules, loaded from their path under a private name."""

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
    """Load the module of a migration and return its function `name`, without writing bytecode beside the file.

    Raises:
        Exception: Anything that the module raises while it is loaded.
    """
    module_name = f"_ledgergate_migration_{migration.revision}"
    loader = SourceFileLoader(module_name, str(migration.path))
    module = module_from_spec(ModuleSpec(module_name, loader, origin=str(migration.path)))
    module.__file__ = str(migration.path)
    sys.modules[module_name] = module  # where dataclasses and pickle look for the module of a class
    dont_write_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = dont_write_bytecode
    function: Callable[[object], Awaitable[None]] = getattr(module, name)
    return function


def describe_error(path: Path, error: BaseException) -> str:
    """Return the error of a module with path, line and type."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1] if lines else 1}: {type(error).__name__}: {error}"
