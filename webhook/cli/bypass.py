"""`ledgergate bypass`: open one gate for a limited time, or close it again at once."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from webhook.api.objects import API_GROUP, API_VERSION
from webhook.cli.options import DONE, USAGE, command, fail, flag
from webhook.core.overview import format_time
from webhook.kube.errors import NotFound
from webhook.kube.kubeconfig import ClusterTarget, connect_to

LONGEST = timedelta(hours=24)
"""What is open for longer is no emergency: `spec.mode: Audit` says so where everybody looks."""

REASON_LIMIT = 256
"""Characters, by the CRD."""


class Duration(click.ParamType[timedelta]):
    """A duration as Kubernetes writes it, in whole hours, minutes and seconds."""

    name = "duration"
    _form = re.compile(r"(?=.)(?:([0-9]{1,5})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,5})s)?\Z")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read 30m, 90s or 1h30m."""
        if isinstance(value, timedelta):
            return value
        parts = self._form.match(str(value))
        if parts is None:
            self.fail(f"expected a duration such as 90s, 30m or 1h30m, got {value!r}", param, ctx)
        hours, minutes, seconds = (int(part or 0) for part in parts.groups())
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)


@command(
    examples="""
  ledgergate bypass app --for 30m --reason "incident 4711: the ledger's table was renamed"
  ledgergate bypass app --end
"""
)
@click.argument("gate")
@flag("--for", "duration", type=Duration(), metavar="30m", help="For how long; 24h at most.")
@flag("--reason", metavar="TEXT", help="Why, for those who read it later: in the Events, the log and the status.")
@flag("--end", is_flag=True, help="Close the gate again now.")
async def bypass(target: ClusterTarget, *, gate: str, duration: timedelta | None, reason: str | None, end: bool) -> int:
    """Open GATE in an emergency: until the time is over, every pod that it selects starts, whatever its ledger says.

    Pods that are held are released at once. Everybody sees it: kubectl warns, Events and a metric say so.
    """
    problems = _problems(duration, reason, end=end)
    if problems:
        raise click.UsageError("\n".join(problems))
    async with connect_to(target) as (cluster, namespace):
        until = datetime.now(UTC) + (duration or timedelta())
        opened = None if end else {"until": f"{until:%Y-%m-%dT%H:%M:%SZ}", "reason": reason}
        path = f"/apis/{API_GROUP}/{API_VERSION}/namespaces/{namespace}/ledgergates/{gate}"
        # A manager of its own: a later `kubectl apply --server-side` of the manifest leaves the bypass alone.
        query = {"fieldManager": "ledgergate-bypass"}
        try:
            await cluster.request("PATCH", path, query=query, body={"spec": {"bypass": opened}}, content="merge-patch")
        except NotFound:
            return fail(
                f"there is no LedgerGate {gate} in namespace {namespace}; `ledgergate status -A` lists all", USAGE
            )
    if end:
        click.echo(f"gate {namespace}/{gate} is closed: its pods wait for their ledger again")
        return DONE
    click.echo(
        f"gate {namespace}/{gate} is open until {format_time(until)}: every pod that it selects starts, held ones now."
    )
    click.echo(f"Close it earlier: ledgergate bypass {gate} -n {namespace} --end")
    return DONE


def _problems(duration: timedelta | None, reason: str | None, *, end: bool) -> list[str]:
    """Say everything that is wrong with the flags."""
    if end:
        given = [name for name, value in (("--for", duration), ("--reason", reason)) if value is not None]
        return [f"expected --end alone, got {' and '.join(given)} too"] if given else []
    found = []
    if duration is None:
        found.append("expected --for with a duration such as 30m, or --end")
    elif not timedelta() < duration <= LONGEST:
        found.append("--for: expected more than 0s and 24h at most; for longer, set `mode: Audit` in the gate's spec")
    if reason is None or not reason.strip():
        found.append("expected --reason with why the gate is opened")
    elif len(reason) > REASON_LIMIT:
        found.append(f"--reason: expected {REASON_LIMIT} characters at most, got {len(reason)}")
    return found
