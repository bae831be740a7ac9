"""The flags of every command that a person runs against a cluster, and how such a command ends."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from migrations.cli.conventions import Exit, flag, format_examples
from webhook.kube.errors import ClusterError, Forbidden, NotFound, Unavailable
from webhook.kube.kubeconfig import ClusterTarget, KubeconfigError

Function = TypeVar("Function", bound=Callable[..., Any])
Work = Callable[..., Coroutine[Any, Any, int]]


def cluster_command(*examples: str) -> Callable[[Work], click.Command]:
    """Make a click command of a coroutine that takes a :class:`ClusterTarget` and its own flags.

    Args:
        examples: command lines that ``--help`` shows.
    """

    def decorate(work: Work) -> click.Command:
        @wraps(work)
        def run(kubeconfig: Path | None, context: str | None, namespace: str | None, **flags: Any) -> None:
            sys.exit(_run(work, ClusterTarget(kubeconfig, context, namespace), flags))

        return click.command(epilog=format_examples(*examples))(_add_target_flags(run))

    return decorate


def _add_target_flags(command: Function) -> Function:
    flags = (
        flag("--namespace", "Namespace. Without it: the context's.", "-n", metavar="NS"),
        flag("--context", "Context of the kubeconfig. Without it: its current one.", metavar="NAME"),
        flag(
            "--kubeconfig",
            "Kubeconfig. Without it: KUBECONFIG, else ~/.kube/config, else the service account of the pod.",
            type=click.Path(path_type=Path),
        ),
    )
    for declare in reversed(flags):
        command = declare(command)
    return command


def _run(work: Work, target: ClusterTarget, flags: dict[str, Any]) -> int:
    try:
        return asyncio.run(work(target, **flags))
    except KubeconfigError as error:
        return report_failure(str(error), Exit.USAGE)
    except Unavailable as error:
        return report_failure(f"the API server does not answer: {error}", Exit.UNREACHABLE)
    except Forbidden as error:
        return report_failure(f"a right is missing, or a login has expired: {error}", Exit.USAGE)
    except NotFound as error:
        return report_failure(str(error), Exit.USAGE)
    except ClusterError as error:
        return report_failure(str(error), Exit.FAILED)


def report_failure(message: str, code: Exit) -> int:
    """Write on standard error what went wrong, and return the exit code."""
    print_note(message)
    return code


def print_note(message: str) -> None:
    """Write a line to standard error, so that standard output holds nothing but the result."""
    click.echo(f"ledgergate: {message}", err=True)
