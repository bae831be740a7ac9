"""`ledgergate release`: take the scheduling gate off every held pod."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from migrations.cli.conventions import Exit, flag
from webhook.cli.in_service import find_in_service
from webhook.cli.options import cluster_command, report_failure
from webhook.cli.uninstall import ReleaseResult, make_ready, release_all, remove_guards
from webhook.kube.kubeconfig import ClusterTarget, connect_to

_MAX_NAMED = 20  # pods that are listed by name

_IN_SERVICE = (
    "ledgergate is not taken out of service: {reason}. This Job is a hook for the end of a release and does nothing "
    "when it is applied with other objects; to remove ledgergate, use the tool that installed it, or run `ledgergate "
    "release --all --uninstall`"
)


@cluster_command("ledgergate release --all -n shop", "ledgergate release --all --uninstall")
@flag("--all", "Every held pod, of every namespace unless -n names one.", "everything", is_flag=True)
@flag(
    "--uninstall",
    "Before that, delete what holds pods: the policies, then both webhook configurations.",
    is_flag=True,
)
@flag(
    "--unless-in-service",
    "With --uninstall: refuse unless ledgergate is being removed from this namespace. Set by the chart's Job.",
    metavar="NS",
)
async def release(target: ClusterTarget, *, everything: bool, uninstall: bool, unless_in_service: str | None) -> int:
    """Take ledgergate's scheduling gate off every held pod, so that it starts whatever its ledger holds.

    While ledgergate is in service its webhook refuses this for pods whose ledger is not where they need it. With
    --uninstall ledgergate is put out of service first, and no pod's readiness waits for it any more; run that before
    you delete its manifests. May be repeated at any time.

    Needs the rights to list and patch pods; with --uninstall also to patch pods/status and to delete the policies,
    their bindings and the webhook configurations. Exits 1 when a pod could not be released, 2 when a right is missing
    or --unless-in-service refuses, 4 when the API server does not answer.
    """
    if not everything:
        raise click.UsageError("expected --all: every held pod is released; for one gate there is `ledgergate bypass`")
    if uninstall and target.namespace is not None:
        raise click.UsageError("expected --uninstall for the whole cluster, got --namespace too")
    if unless_in_service is not None and not uninstall:
        raise click.UsageError("expected --unless-in-service with --uninstall, got it alone")
    async with connect_to(target) as (cluster, _):
        if unless_in_service and (reason := await find_in_service(cluster, unless_in_service)):
            return report_failure(_IN_SERVICE.format(reason=reason), Exit.USAGE)
        if uninstall:
            async for name in remove_guards(cluster):
                click.echo(f"deleted {name}")
        with _progress() as on_progress:
            result = await release_all(cluster, target.namespace, unguarded=uninstall, on_progress=on_progress)
        if uninstall:
            result.refused |= await make_ready(cluster, datetime.now(UTC))
    return _report(result, target.namespace)


def _report(result: ReleaseResult, namespace: str | None) -> int:
    where = f"in namespace {namespace}" if namespace else "in any namespace"
    if result.released:
        click.echo(f"released {_pods(len(result.released))}")
    elif not result.refused:
        click.echo(f"no pod is held {where}")
    if not result.refused:
        if result.complete:
            return Exit.DONE
        message = f"pods {where} are still created with ledgergate's scheduling gate: a part of it is still installed"
        return report_failure(message, Exit.FAILED)
    refused = sorted(result.refused.items())
    for (pod_namespace, name), error in refused[:_MAX_NAMED]:
        click.echo(f"{pod_namespace}/{name}: {error}", err=True)
    if len(refused) > _MAX_NAMED:
        click.echo(f"… and {len(refused) - _MAX_NAMED} more", err=True)
    return report_failure(f"{_pods(len(refused))} could not be released: {_advice(result, namespace)}", Exit.FAILED)


def _advice(result: ReleaseResult, namespace: str | None) -> str:
    """Return why pods could not be released, and what to do."""
    if result.forbidden:
        limit = "" if namespace else "limit the release to one namespace with -n NAMESPACE, "
        return (
            "ledgergate's webhook refuses it while their ledger is not where they need it; "
            f"{limit}open a gate for a while with `ledgergate bypass GATE`, or put ledgergate out of service with "
            "`ledgergate release --all --uninstall`"
        )
    if result.webhook_failed:
        return (
            "ledgergate's webhook, which has to agree, does not answer; if ledgergate is gone, remove what is left of "
            "it with `ledgergate release --all --uninstall`"
        )
    return "run it again"


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _released, _seen: None
        return
    from rich.console import Console  # noqa: PLC0415 - rich is slow to import, and only a terminal needs it
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("releasing", total=None)
        yield lambda released, seen: bar.update(task, completed=released, total=seen)
