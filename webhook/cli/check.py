"""`ledgergate check`: would the pods of a workload start now?"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml

from migrations.cli.conventions import Exit, flag
from webhook.api.namespace import NamespaceLabels, OptIn
from webhook.api.objects import API_GROUP, LedgerGate, Pod
from webhook.cli.options import cluster_command, print_note, report_failure
from webhook.core.contracting import lacking
from webhook.core.gate import Gate, parse_gate
from webhook.core.history import recall_snapshot
from webhook.core.living import LivingPods, count_living
from webhook.core.pod_verdict import AWAITING, Decision, PodVerdict, await_gate, decide_pod, read_required
from webhook.core.verdict import Reason
from webhook.kube.client import KubeClient
from webhook.kube.errors import ClusterError, Forbidden
from webhook.kube.kubeconfig import ClusterTarget, connect_to
from webhook.manifests.sample_pods import ImageError, SamplePod, sample_pods, with_images

_APPS = ("deployment", "statefulset", "daemonset", "replicaset")
_BATCH = ("job", "cronjob")


@cluster_command(
    "ledgergate check -f deployment.yaml -n shop",
    "helm template shop . | ledgergate check -f - -n shop",
    "ledgergate check deployment/gateway --image registry.example/gateway:1 -n shop",
)
@click.argument("workload", required=False, metavar="[KIND/NAME]")
@flag("--file", "Manifests, or - for standard input.", "-f", metavar="FILE", default=None)
@flag(
    "--image",
    "Another image for a container, such as for a rollback; CONTAINER may be left out if the pod has only one.",
    metavar="[CONTAINER=]IMAGE",
    multiple=True,
)
async def check(target: ClusterTarget, *, workload: str | None, file: str | None, image: Sequence[str]) -> int:
    """Ask the guard whether the pods of a workload would start now.

    Creates one pod of each workload by server-side dry run, so nothing is stored, and prints what each LedgerGate says.
    Of a migrator with a contract migration it prints the living pods that need the old schema. Needs the rights to
    create pods, and to list pods and LedgerGates. Exits 0 where all would start, 3 where one would be held or denied.
    """
    if (workload is None) == (file is None):
        return report_failure("expected KIND/NAME or -f FILE, one of them", Exit.USAGE)
    async with connect_to(target) as (cluster, namespace):
        try:
            objects = _read(file) if file is not None else [await _get(cluster, namespace, workload or "")]
            samples = [with_images(each, image) for each in sample_pods(objects)]
        except (OSError, ValueError, yaml.YAMLError, ImageError) as error:
            return report_failure(str(error), Exit.USAGE)
        if not samples:
            return report_failure("no object there has a pod template", Exit.USAGE)
        reports = [await _ask(cluster, each, each.namespace or namespace) for each in samples]
    for report in reports:
        click.echo(f"{report.title}: {report.outcome}")
        for line in report.lines:
            click.echo(f"  {line}")
    return Exit.DONE if all(report.starts for report in reports) else Exit.BEHIND


@dataclass(frozen=True, slots=True)
class _Report:
    """What the guard says of one workload's pods."""

    title: str
    outcome: str
    starts: bool
    lines: tuple[str, ...] = ()


def _read(file: str) -> list[Any]:
    text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    return list(yaml.safe_load_all(text))


async def _get(cluster: KubeClient, namespace: str, workload: str) -> Any:
    kind, _, name = workload.lower().partition("/")
    kind = kind.removesuffix("s")
    group = "apps/v1" if kind in _APPS else "batch/v1" if kind in _BATCH else ""
    if not name or not group:
        known = ", ".join((*_APPS, *_BATCH))
        raise ValueError(f"expected KIND/NAME with a KIND of {known}, got {workload!r}")
    path = f"/apis/{group}/namespaces/{namespace}/{kind}s/{name}"
    found = msgspec.json.decode(await cluster.request("GET", path))
    return {**found, "kind": kind}


async def _ask(cluster: KubeClient, sample: SamplePod, namespace: str) -> _Report:
    try:
        pod, warnings = await cluster.try_to_create_pod(namespace, sample.manifest)
    except Forbidden as error:
        if API_GROUP not in str(error):
            raise
        return _Report(sample.title, "would be denied", starts=False, lines=(str(error).partition("request: ")[2],))
    if pod.gate_index is None:
        found = OptIn.of(await cluster.namespace(namespace))
        lines = warnings if found is OptIn.ENABLED else (*warnings, f"namespace {namespace} is not opted in")
        return _Report(sample.title, "would start", starts=True, lines=lines)
    decided = await _decide(cluster, namespace, pod)
    bad = [each for each in decided.by_gate if not each.verdict.outcome.good] if decided else []
    waits = [await _count(cluster, namespace, pod, each) for each in bad if each.verdict.reason is Reason.STILL_NEEDED]
    counted = tuple(line for living in waits for line in _describe(living))
    if waits and len(waits) == len(bad) and not any(living.needed for living in waits):
        return _Report(sample.title, "would start, as no living pod needs the old schema", starts=True, lines=counted)
    lines = warnings or ("the guard did not answer; it decides when it is back",)
    if not warnings and decided and await_gate(pod, decided).final is AWAITING:
        waiting = NamespaceLabels.of(await cluster.namespace(namespace)).waits
        lines = (AWAITING.message,) if waiting else lines
    return _Report(sample.title, "would be held", starts=False, lines=(*lines, *counted))


async def _decide(cluster: KubeClient, namespace: str, pod: Pod) -> PodVerdict | None:
    """Return the verdict by the gates' statuses, which the guard has said in words; None where they cannot be read."""
    try:
        listed, _ = await cluster.ledger_gates_of(namespace).list_objects()
    except ClusterError as error:
        print_note(f"LedgerGates cannot be listed: {error}")
        return None
    gates = [parse_gate(each) for each in listed if isinstance(each, LedgerGate)]
    selecting = [(gate, recall_snapshot(gate)) for gate in gates if gate.selector.matches(pod.labels)]
    return decide_pod(pod, selecting, datetime.now(UTC))


async def _count(cluster: KubeClient, namespace: str, pod: Pod, decision: Decision) -> LivingPods:
    gate, ledger = decision.gate, decision.snapshot.ledger
    listed, _ = await cluster.selected_pods(namespace, gate.selector).list_objects()
    pods = [each for each in listed if isinstance(each, Pod)]
    contracts = lacking(gate, decision.required, ledger)

    def read(each: Pod, under: Gate = gate) -> Any:
        return read_required(each, under)

    return count_living(gate, pods, contracts, ledger, migrator=pod.metadata.uid, read=read, released=lambda _: False)


def _describe(living: LivingPods) -> list[str]:
    return [
        f"{group.count} living of {group.owner or 'no owner'} expect {group.expected or 'nothing that they declare'}"
        + (": needs the old schema" if group.needed else "")
        for group in living.groups
    ]
