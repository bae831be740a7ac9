"""A git repository with a copy of the chart, from which GitOps tools install it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CHART = "chart"
_IDENTITY = {"GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.com"}
_IDENTITY |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in _IDENTITY.items()}


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository, of one branch.

    Args:
        directory: its work tree, which is created.
    """

    directory: Path

    @property
    def url(self) -> str:
        """Its URL."""
        return f"file://{self.directory}"

    def commit(self, source: Path, path: str = CHART) -> None:
        """Put a copy of a directory at a path of the work tree and commit it."""
        if not self.directory.exists():
            self.directory.mkdir(parents=True)
            self._git("init", "--quiet", "--initial-branch=main")
        shutil.rmtree(self.directory / path, ignore_errors=True)
        shutil.copytree(source, self.directory / path)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message=Test")

    def _git(self, *arguments: str) -> None:
        # The developer's settings, such as signed commits, have no effect.
        environment = {**os.environ, **_IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        subprocess.run(
            ["git", *arguments], cwd=self.directory, env=environment, check=True, capture_output=True, timeout=120
        )
