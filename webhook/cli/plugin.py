"""The console script ``kubectl-ledgergate``, which kubectl runs as ``kubectl ledgergate``.

https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/
"""

import sys

from webhook.cli.main import main as command_line

_COMMANDS = ("status", "bypass", "release")


def main() -> None:
    """Run the command that the arguments name, or `status` if they name none."""
    given = sys.argv[1:]
    arguments = given if given and given[0] in _COMMANDS else ["status", *given]
    command_line(arguments, prog_name="kubectl ledgergate")
