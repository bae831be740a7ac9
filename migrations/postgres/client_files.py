"""What libpq reads from the machine on which it runs, beside the environment."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


class ClientFiles:
    """The files and the user of this machine."""

    def user_name(self) -> str | None:
        """Return the name of the operating system's user; None where it has none."""
        try:
            return pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            return None

    def home(self) -> str | None:
        """Return the home directory of the operating system's user; None where it has none."""
        try:
            return pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            return None

    def read(self, path: str) -> str | None:
        """Return the text of a file; None where it cannot be read."""
        try:
            return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
        except (OSError, ValueError):
            return None

    def exists(self, path: str) -> bool:
        """Return whether there is a file, socket or directory of this path."""
        return os.path.lexists(path)

    def is_private(self, path: str) -> bool:
        """Return whether neither group nor others have any right to the file."""
        try:
            return not Path(path).stat().st_mode & 0o077
        except (OSError, ValueError):
            return True
