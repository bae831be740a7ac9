"""`ledgergate bypass`: open one gate for a limited time, or close it again at once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec

from migrations.cli.conventions import Exit, flag
from webhook.api.objects import API_GROUP, API_VERSION, Struct
from webhook.cli.options import cluster_command, report_failure
from webhook.core.duration import parse_duration
from webhook.core.gate import MAX_BYPASS
from webhook.core.overview import format_time
from webhook.kube.client import KubeClient
from webhook.kube.errors import NotFound
from webhook.kube.kubeconfig import ClusterTarget, connect_to

MAX_REASON = 256
"""Characters that the CRD allows."""


class Duration(click.ParamType[timedelta]):
    """A flag's value that is a duration as Kubernetes writes it."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read 30m, 90s or 1h30m."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@cluster_command(
    """ledgergate bypass app --for 30m --reason "incident 4711: the ledger's table was renamed\"""",
    "ledgergate bypass app --end",
)
@click.argument("gate")
@flag("--for", "For how long, 24h at most.", "duration", type=Duration(), metavar="30m")
@flag("--reason", "Why, for Events, the log and `ledgergate status`.", metavar="TEXT")
@flag("--end", "Close the gate again now.", is_flag=True)
async def bypass(target: ClusterTarget, *, gate: str, duration: timedelta | None, reason: str | None, end: bool) -> int:
    """Open GATE for a limited time, in an emergency: every pod that it selects starts, whatever its ledger holds.

    Held pods are released at once. kubectl warns of it, and a metric and an Event with your user name show it. Needs
    the verbs patch and bypass on the LedgerGate, which ClusterRole ledgergate-bypass has; to end a bypass, patch alone.
    Exits 2 when there is no such gate or a right is missing, 4 when the API server does not answer.
    """
    problems = _problems(duration, reason, end=end)
    if problems:
        raise click.UsageError("\n".join(problems))
    async with connect_to(target) as (cluster, namespace):
        until = datetime.now(UTC) + (duration or timedelta())
        opened = {"until": f"{until:%Y-%m-%dT%H:%M:%SZ}", "reason": reason}
        value = None if end else {**opened, "by": await _user_name(cluster)}
        path = f"/apis/{API_GROUP}/{API_VERSION}/namespaces/{namespace}/ledgergates/{gate}"
        # Its own field manager, so that a later `kubectl apply --server-side` of the manifest leaves the bypass alone.
        query = {"fieldManager": "ledgergate-bypass"}
        try:
            await cluster.request("PATCH", path, query=query, body={"spec": {"bypass": value}}, content="merge-patch")
        except NotFound:
            message = f"there is no LedgerGate {gate} in namespace {namespace}; `ledgergate status -A` lists all"
            return report_failure(message, Exit.USAGE)
    if end:
        click.echo(f"gate {namespace}/{gate} is closed: its pods wait for their ledger again")
        return Exit.DONE
    opens = f"gate {namespace}/{gate} is open until {format_time(until)}"
    click.echo(f"{opens}: every pod that it selects starts, held ones now")
    click.echo(f"to close it earlier: ledgergate bypass {gate} -n {namespace} --end")
    return Exit.DONE


class _UserInfo(Struct, frozen=True):
    username: str = ""


class _ReviewStatus(Struct, frozen=True):
    user_info: _UserInfo = _UserInfo()


class _SubjectReview(Struct, frozen=True):
    status: _ReviewStatus = _ReviewStatus()


async def _user_name(cluster: KubeClient) -> str:
    """Return the name under which the API server knows the user.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#self-subject-review
    """
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await cluster.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body)
    return msgspec.json.decode(answer, type=_SubjectReview).status.user_info.username


def _problems(duration: timedelta | None, reason: str | None, *, end: bool) -> list[str]:
    """Return everything that is wrong with the flags."""
    if end:
        given = [name for name, value in (("--for", duration), ("--reason", reason)) if value is not None]
        return [f"expected --end alone, got {' and '.join(given)} too"] if given else []
    found = []
    if duration is None:
        found.append("expected --for with a duration such as 30m, or --end")
    elif not timedelta() < duration <= MAX_BYPASS:
        found.append("--for: expected more than 0s and 24h at most; for longer, set `mode: Audit` in the gate's spec")
    if reason is None or not reason.strip():
        found.append("expected --reason with why the gate is opened")
    elif len(reason) > MAX_REASON:
        found.append(f"--reason: expected {MAX_REASON} characters at most, got {len(reason)}")
    return found
