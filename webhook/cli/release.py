"""`ledgergate release`: take our scheduling gate off, for good."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from webhook.cli.options import DONE, FAILED, command, fail, flag
from webhook.cli.uninstall import ReleaseResult, make_ready, release_all, remove_guards
from webhook.kube.kubeconfig import ClusterTarget, connect_to

_SHOWN = 20
"""Pods that are named; of thousands nobody reads more."""


@command(
    examples="""
  ledgergate release --all -n shop
  ledgergate release --all --uninstall
"""
)
@flag("--all", "everything", is_flag=True, help="Every held pod, of every namespace unless -n names one.")
@flag(
    "--uninstall",
    is_flag=True,
    help="Before that, delete what holds pods: the MutatingAdmissionPolicy, then both webhook configurations.",
)
async def release(target: ClusterTarget, *, everything: bool, uninstall: bool) -> int:
    """Take ledgergate's scheduling gate off every held pod, so that it starts whatever its ledger says.

    While ledgergate is in service its webhook refuses that for pods whose ledger is not where they need it. With
    --uninstall it is put out of service first, and no pod's readiness waits for it any more; run that before its
    manifests are deleted. May be repeated at any time.
    """
    if not everything:
        raise click.UsageError("expected --all: every held pod is released; for one gate there is `ledgergate bypass`")
    if uninstall and target.namespace is not None:
        raise click.UsageError("expected --uninstall for the whole cluster, got --namespace too")
    async with connect_to(target) as (cluster, _):
        if uninstall:
            async for name in remove_guards(cluster):
                click.echo(f"deleted {name}")
        with _progress() as on_progress:
            done = await release_all(cluster, target.namespace, unguarded=uninstall, on_progress=on_progress)
        if uninstall:
            done.refused |= await make_ready(cluster, datetime.now(UTC))
    return _tell(done, f"in namespace {target.namespace}" if target.namespace else "in any namespace")


def _tell(done: ReleaseResult, where: str) -> int:
    if done.released:
        click.echo(f"released {_pods(len(done.released))}")
    elif not done.refused:
        click.echo(f"no pod is held {where}")
    if not done.refused:
        still = f"pods {where} still come with ledgergate's scheduling gate: something of it is still installed"
        return DONE if done.over else fail(still, FAILED)
    refused = sorted(done.refused.items())
    for (namespace, name), error in refused[:_SHOWN]:
        click.echo(f"{namespace}/{name}: {error}", err=True)
    if len(refused) > _SHOWN:
        click.echo(f"… and {len(refused) - _SHOWN} more", err=True)
    hint = (
        "open a gate for a while with `ledgergate bypass GATE`, or put ledgergate out of service with `ledgergate "
        "release --all --uninstall`"
        if done.forbidden
        else "run it again"
    )
    return fail(f"{_pods(len(refused))} could not be released; {hint}", FAILED)


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _released, _seen: None
        return
    from rich.console import Console  # noqa: PLC0415 - a terminal only
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("releasing", total=None)
        yield lambda released, seen: bar.update(task, completed=released, total=seen)
