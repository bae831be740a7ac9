"""`make demo`: pods wait for their database, a commit releases them, and an outage of ledgergate stops no rollout.

The runner's half comes first: it needs no control plane, which is compiled meanwhile where it is not there yet.
"""

import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from rich.console import Console

from demo import runner
from demo.stage import NAMESPACE, Stage
from demo.timeline import Timeline
from testbed.cluster.installation import Installation
from testbed.cluster.pod_watch import PodWatch
from testbed.controlplane import ControlPlane, Unavailable, provision
from testbed.postgres import Postgres


def main() -> int:
    """Run the demo; return the exit status."""
    console = Console(highlight=False)
    timeline = Timeline(console)
    with ThreadPoolExecutor(1) as executor:
        found = executor.submit(provision, progress=lambda line: console.print(line, style="dim", soft_wrap=True))
        runner.show(timeline)
    try:
        programs = found.result()
    except Unavailable as reason:
        console.print(f"The demo needs a Kubernetes control plane, which is not available:\n{reason}")
        return 1
    timeline.heading("A cluster")
    with ExitStack() as stack:
        timeline.event("starting", "etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok, PostgreSQL")
        plane = stack.enter_context(ControlPlane(programs))
        postgres = stack.enter_context(Postgres())
        timeline.event("ready", f"Kubernetes {_version(plane)} and PostgreSQL, on this machine ({platform.machine()})")
        installation = stack.enter_context(Installation(plane))
        without = "" if installation.with_policy else " without the policy of Kubernetes 1.36"
        timeline.event(
            "installed", f"ledgergate's manifests{without}; one webhook and one controller, as local processes"
        )
        stage = _set_up(plane, postgres, stack)
        release = _hold_and_release(timeline, stage)
        roll = _roll_without_webhook if installation.with_policy else _wait_for_the_webhook
        timeline.summary(
            [
                ("first pod released after the commit", f"{release[0] * 1000:.0f} ms"),
                ("last pod released after the commit", f"{release[-1] * 1000:.0f} ms"),
                roll(timeline, stage, installation),
            ]
        )
    return 0


def _version(plane: ControlPlane) -> str:
    return next(line.split()[-1] for line in plane.kubectl("version").splitlines() if line.startswith("Server"))


def _set_up(plane: ControlPlane, postgres: Postgres, stack: ExitStack) -> Stage:
    plane.kubectl("create", "namespace", NAMESPACE)
    plane.kubectl("wait", "--for=create", "serviceaccount/default", "-n", NAMESPACE, "--timeout=30s")
    plane.kubectl("apply", "-n", NAMESPACE, "-k", "manifests/namespace")
    watch = stack.enter_context(PodWatch(plane, NAMESPACE))
    return Stage(plane, postgres.create_database(), watch)


def _hold_and_release(timeline: Timeline, stage: Stage) -> list[float]:
    """Show how pods are held and released; return the seconds from the commit to each release."""
    timeline.heading("Pods wait for the database that their image was built for")
    stage.apply("platform")
    stage.apply("gate")
    timeline.event("applied", "namespace label, LedgerGate shop; the database is empty")
    stage.apply("gateway")
    timeline.event("applied", f"deployment/gateway, 3 replicas, expects {stage.revision}")
    held = {pod.name for pod in stage.wait_until_held("gateway", 3)}
    timeline.event("held", "3 pods of gateway exist, and no node may take them")
    timeline.show("kubectl get pods", stage.kubectl("get", "pods"))
    timeline.show(f"kubectl get events (of {min(held)})", stage.events_of(min(held)))
    refusal = stage.try_to_ungate(min(held))
    timeline.event("denied", "even cluster-admin cannot let one go:")
    timeline.show(f"kubectl patch pod {min(held)} (schedulingGates: none)", refusal)

    timeline.heading("The workload that brings the migrations is let through, and applies them once")
    stage.apply("controller")
    timeline.event("applied", "deployment/controller, whose init container runs `ledgergate migrate up`")
    pod, printed, committed = stage.run_init_container("controller")
    for line in printed:
        timeline.event("migrated", line)
    stage.wait_until_running("gateway", 3)
    delays = [release.at - committed for release in stage.releases(held)]
    timeline.event(
        "released", f"3 pods, {', '.join(f'{delay * 1000:.0f} ms' for delay in delays)} after {pod}'s last commit"
    )
    stage.wait_until_running("controller", 1)
    stage.wait_until_none_held()
    timeline.show("kubectl get pods", stage.kubectl("get", "pods"))
    timeline.show("kubectl get ledgergates", stage.kubectl("get", "ledgergates"))
    return delays


def _roll_without_webhook(timeline: Timeline, stage: Stage, installation: Installation) -> tuple[str, str]:
    """Show a rollout while no webhook runs; return what was measured, and how long the longest hold was."""
    timeline.heading("An outage of ledgergate itself stops no rollout")
    installation.kill("webhook")
    timeline.event("killed", "every webhook process, by SIGKILL")
    before = frozenset(pod.name for pod in stage.pods("gateway"))
    stage.kubectl("rollout", "restart", "deployment/gateway")
    timeline.event("applied", "kubectl rollout restart deployment/gateway")
    after = {pod.name for pod in stage.wait_until_running("gateway", 3, besides=before)}
    longest = max(release.held for release in stage.releases(after))
    timeline.event(
        "released", f"3 new pods: created held, and released by the controller within {longest * 1000:.0f} ms"
    )
    timeline.show("kubectl rollout status deployment/gateway", stage.kubectl("rollout", "status", "deployment/gateway"))
    return "longest hold with every webhook dead", f"{longest * 1000:.0f} ms"


def _wait_for_the_webhook(timeline: Timeline, stage: Stage, installation: Installation) -> tuple[str, str]:
    """Show a rollout during an outage before Kubernetes 1.36; return what was measured, and the time it took."""
    timeline.heading("Before Kubernetes 1.36 an outage delays rollouts, and stops no running pod")
    installation.kill("webhook")
    timeline.event("killed", "every webhook process, by SIGKILL")
    before = frozenset(pod.name for pod in stage.pods("gateway"))
    stage.kubectl("rollout", "restart", "deployment/gateway")
    timeline.event("applied", "kubectl rollout restart deployment/gateway")
    refusal = stage.wait_until_refused("gateway")
    timeline.event("denied", f"a new pod; the {len(before)} old ones go on running:")
    timeline.show("kubectl get replicasets (ReplicaFailure)", refusal)
    installation.start_webhook()
    begin = time.monotonic()
    timeline.event("started", "a webhook")
    stage.wait_until_running("gateway", 3, besides=before)
    took = time.monotonic() - begin
    timeline.event("running", f"3 new pods, {took * 1000:.0f} ms later")
    timeline.show("kubectl rollout status deployment/gateway", stage.kubectl("rollout", "status", "deployment/gateway"))
    return "rollout done after a webhook was back", f"{took * 1000:.0f} ms"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped; what was built is kept, and the next run goes on from there")
