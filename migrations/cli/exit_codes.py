"""Exit codes of every command, those of `ledgergate webhook` and `ledgergate status` included."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; a run that a signal ended has failed."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BEHIND = 3
    UNREACHABLE = 4
