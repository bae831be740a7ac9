"""Atlas' directory: SQL files, some of which are checkpoints."""

from __future__ import annotations

import re
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from migrations.files.external import list_names

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_CHECKPOINT = re.compile(r"[ -~]*atlas:checkpoint\b")


def _names(directory: Path) -> Iterable[str]:
    paths = sorted(path for path in directory.iterdir() if path.name.endswith(".sql") and not path.is_dir())
    # A database that was set up before a checkpoint never runs it. In one that starts from the checkpoint, every file
    # before it counts as applied.
    return [path.name for path in paths if not _is_checkpoint(path)] or [path.name for path in paths]


def _is_checkpoint(path: Path) -> bool:
    """Return whether a directive in the comment at the top of the file, above an empty line, makes it a checkpoint."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    comment = list(takewhile(lambda line: line.startswith(("#", "--")), lines))
    detached = len(comment) == len(lines) or not lines[len(comment)].strip(" \t")
    return detached and any(map(_CHECKPOINT.match, comment))


list_atlas = partial(list_names, _names, "20250126120000_add_users.sql")
"""List the files that Atlas runs on a database that has begun with the first of them.

Source: `LocalDir.Files`, `LocalFile.Directive` and `Executor.Pending` of ariga.io/atlas
"""
