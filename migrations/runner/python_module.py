"""Python migrations as modules, loaded from their path under a private name."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
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
    calls = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    line = find_line(path, calls[::-1])
    return f"{path}:{line}: {type(error).__name__}: {error}".removesuffix(": ")


def find_line(path: Path, calls: Sequence[tuple[str, int]]) -> int:
    """Return the line of a module in the first of the calls that are in it; 1 where none is."""
    return next((line for file, line in calls if file == str(path)), 1)


_watched: list[tuple[str, list[int]]] = []
"""The path of the module whose function runs now, and the lines of it that have forked."""


@contextmanager
def watch_forks(path: Path) -> Iterator[list[int]]:
    """Collect the lines of a module that fork this process while the block runs, and end their copies at once.

    A copy has the same connection and event loop, so it would go on with the run as the original does. A copy that a
    library makes is left alone until it comes out of the block: `multiprocessing` never lets one come so far.
    """
    _register_fork_hooks()
    process, lines = os.getpid(), list[int]()
    _watched.append((str(path), lines))
    try:
        yield lines
    finally:
        if os.getpid() != process:
            os._exit(1)
        _watched.pop()


@cache
def _register_fork_hooks() -> None:
    os.register_at_fork(after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _after_fork_in_parent() -> None:
    frame = sys._getframe(1)  # noqa: SLF001 - the frame that called os.fork
    if _watched and frame.f_code.co_filename == _watched[-1][0]:
        _watched[-1][1].append(frame.f_lineno)


def _after_fork_in_child() -> None:
    if _watched and sys._getframe(1).f_code.co_filename == _watched[-1][0]:  # noqa: SLF001 - as above
        os._exit(1)
