"""The files that are new or changed since a revision of a git repository, as the program `git` lists them.

RuntimeError
└── GitError   git is missing, does not answer, or does not know the revision
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

TIMEOUT = 60.0
"""Seconds for one call of git: a repository on a slow disk needs some for its first `git diff`."""
_SHALLOW = "; a shallow clone lacks older commits: fetch them (actions/checkout: `fetch-depth: 0`)"


class GitError(RuntimeError):
    """The changed files cannot be listed; the message says why."""


def changed_files(directory: Path, since: str) -> frozenset[Path]:
    """Return the files below a directory that were added or changed since the merge base with a revision.

    What is not committed counts too, and so do files that git does not track and does not ignore.

    Args:
        directory: The directory.
        since: A revision as git names it, such as `origin/main`.

    Raises:
        GitError: git cannot list them.
    """
    top = Path(_git(directory, "rev-parse", "--show-toplevel").rstrip("\n"))
    if since.startswith("-"):  # git would read it as an option
        raise GitError(f"expected --since to name a revision, got {since!r}")
    base = _git(directory, "merge-base", "HEAD", since, hint=_SHALLOW).strip()
    changed = _git(directory, "diff", "--name-only", "-z", "--no-ext-diff", "--diff-filter=d", base, "--", ".")
    untracked = _git(directory, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", ".")
    return frozenset((top / name).resolve() for name in (changed + untracked).split("\0") if name)


def _git(directory: Path, *arguments: str, hint: str = "") -> str:
    # Take no lock that git can do without: another git may run in the repository.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=directory, env=environment, capture_output=True, timeout=TIMEOUT, check=False
        )
    except FileNotFoundError as error:
        raise GitError("expected the program git on PATH, which --since asks for the changed files") from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"expected git {arguments[0]} to answer within {TIMEOUT:g} s") from error
    if done.returncode:
        said = os.fsdecode(done.stderr).strip().splitlines()
        what = said[-1] if said else f"exit code {done.returncode}"
        raise GitError(f"git {arguments[0]} in {directory}: {what}{hint}")
    return os.fsdecode(done.stdout)
