"""What every command for people takes, and how each of them ends."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from webhook.kube.errors import ClusterError, Forbidden, NotFound, Unavailable
from webhook.kube.kubeconfig import ClusterTarget, KubeconfigError

F = TypeVar("F", bound=Callable[..., Any])

DONE, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 4
"""Exit codes; those of `ledgergate migrate`, with the API server in the database's place."""


def flag(*names: str, **attributes: Any) -> Callable[[F], F]:
    """Add a flag with its environment twin ``LEDGERGATE_<FLAG>``, both shown in ``--help``."""
    long = next(name for name in names if name.startswith("--"))
    twin = f"LEDGERGATE_{long.removeprefix('--').replace('-', '_').upper()}"
    return click.option(*names, envvar=twin, show_envvar=True, **attributes)


def command(*, examples: str) -> Callable[[Callable[..., Coroutine[Any, Any, int]]], click.Command]:
    """Make a click command of a coroutine that takes a :class:`Target` and its own flags, and gives its exit code.

    Args:
        examples: shown at the end of ``--help``, one a line.
    """

    def decorate(work: Callable[..., Coroutine[Any, Any, int]]) -> click.Command:
        @wraps(work)
        def run(kubeconfig: Path | None, context: str | None, namespace: str | None, **flags: Any) -> None:
            sys.exit(_perform(work, ClusterTarget(kubeconfig, context, namespace), flags))

        return click.command(epilog=f"\b\nExamples:\n  {examples.strip()}")(_connected(run))

    return decorate


def _connected(run: F) -> F:
    options = (
        flag("--namespace", "-n", metavar="NS", help="Namespace; the context's own unless given."),
        flag("--context", metavar="NAME", help="Context of the kubeconfig; its current one unless given."),
        flag(
            "--kubeconfig",
            type=click.Path(path_type=Path),
            help="Kubeconfig; KUBECONFIG or ~/.kube/config unless given, in a pod its service account.",
        ),
    )
    for option in reversed(options):
        run = option(run)
    return run


def _perform(work: Callable[..., Coroutine[Any, Any, int]], target: ClusterTarget, flags: dict[str, Any]) -> int:
    try:
        return asyncio.run(work(target, **flags))
    except KubeconfigError as error:
        return fail(str(error), USAGE)
    except Unavailable as error:
        return fail(f"the API server does not answer: {error}", UNREACHABLE)
    except Forbidden as error:
        return fail(f"a right is missing, or a login has run out: {error}", USAGE)
    except NotFound as error:
        return fail(str(error), USAGE)
    except ClusterError as error:
        return fail(str(error), FAILED)


def fail(message: str, code: int) -> int:
    """Say on standard error what went wrong; returns the exit code."""
    click.echo(f"ledgergate: {message}", err=True)
    return code
