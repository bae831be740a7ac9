"""Exit codes of every command of `ledgergate`."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes."""

    DONE = 0
    FAILED = 1
    """A migration, the wrapped command or a release failed, or a signal ended the run."""
    USAGE = 2
    """Flags, settings, files or rights have to be corrected."""
    BEHIND = 3
    """The ledger is not at the expected revision, or does not agree with the files."""
    UNREACHABLE = 4
    """The database, the lock or the API server could not be reached in time."""
