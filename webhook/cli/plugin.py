"""The console script ``kubectl-ledgergate``, which makes ``kubectl ledgergate`` of the commands for people.

https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/
"""

import sys

from webhook.cli.main import main as command_line

_COMMANDS = ("status", "bypass", "release")


def main() -> None:
    """Run a command; `status` where none is named."""
    given = sys.argv[1:]
    arguments = given if given and given[0] in _COMMANDS else ["status", *given]
    command_line(arguments, prog_name="kubectl ledgergate")
