"""`make demo`: pods wait for their database, are released by the commit, and an outage of ours stops nothing."""

import platform
import sys
from contextlib import ExitStack

from rich.console import Console

from demo.stage import NAMESPACE, Stage
from demo.timeline import Timeline
from testbed.cluster.installation import Installation
from testbed.cluster.pod_watch import PodWatch
from testbed.controlplane import ControlPlane, Unavailable, provision
from testbed.postgres import Postgres


def main() -> int:
    """Run the demo; returns the exit status."""
    console = Console(highlight=False)
    try:
        programs = provision(progress=lambda line: console.print(line, style="dim", soft_wrap=True))
    except Unavailable as reason:
        console.print(f"The demo needs a Kubernetes control plane, and none can be had:\n{reason}")
        return 1
    timeline = Timeline(console)
    with ExitStack() as stack:
        timeline.say("starting", "etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok, PostgreSQL")
        plane = stack.enter_context(ControlPlane(programs))
        postgres = stack.enter_context(Postgres())
        timeline.say("ready", f"Kubernetes {_version(plane)} and PostgreSQL, on this machine ({platform.machine()})")
        installation = stack.enter_context(Installation(plane))
        timeline.say("installed", "ledgergate's manifests; one webhook and one controller, as local processes")
        stage = _set_up(plane, postgres, stack)
        release = _hold_and_release(timeline, stage)
        outage = _roll_without_webhook(timeline, stage, installation)
        timeline.sum_up(
            [
                ("first pod released after the commit", f"{release[0] * 1000:.0f} ms"),
                ("last pod released after the commit", f"{release[-1] * 1000:.0f} ms"),
                ("longest hold with every webhook dead", f"{outage * 1000:.0f} ms"),
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
    """Show the main job; returns the seconds from the commit to each release."""
    timeline.act("Pods wait for the database that their image was built for")
    stage.apply("platform")
    stage.apply("gate")
    timeline.say("applied", "namespace label, LedgerGate shop; the database is empty")
    stage.apply("gateway")
    timeline.say("applied", f"deployment/gateway, 3 replicas, expects {stage.revision}")
    held = {pod.name for pod in stage.held("gateway", 3)}
    timeline.say("held", "3 pods of gateway exist, and no node may take them")
    timeline.show("kubectl get pods", stage.kubectl("get", "pods"))
    timeline.show(f"kubectl get events (of {min(held)})", stage.why(min(held)))
    refusal = stage.try_to_ungate(min(held))
    timeline.say("denied", "even cluster-admin cannot let one go:")
    timeline.show(f"kubectl patch pod {min(held)} (schedulingGates: none)", refusal)

    timeline.act("The workload that brings the migrations is let through, and applies them once")
    stage.apply("controller")
    timeline.say("applied", "deployment/controller, whose init container runs `ledgergate migrate up`")
    pod, printed, committed = stage.run_init_container("controller")
    for line in printed:
        timeline.say("migrated", line)
    stage.running("gateway", 3)
    delays = [release.at - committed for release in stage.releases(held)]
    timeline.say(
        "released", f"3 pods, {', '.join(f'{delay * 1000:.0f} ms' for delay in delays)} after {pod}'s last commit"
    )
    stage.running("controller", 1)
    stage.settled()
    timeline.show("kubectl get pods", stage.kubectl("get", "pods"))
    timeline.show("kubectl get ledgergates", stage.kubectl("get", "ledgergates"))
    return delays


def _roll_without_webhook(timeline: Timeline, stage: Stage, installation: Installation) -> float:
    """Show a rollout while no webhook runs; returns the longest hold in seconds."""
    timeline.act("An outage of ledgergate itself stops no rollout")
    installation.kill("webhook")
    timeline.say("killed", "every webhook process, by SIGKILL")
    before = frozenset(pod.name for pod in stage.now("gateway"))
    stage.kubectl("rollout", "restart", "deployment/gateway")
    timeline.say("applied", "kubectl rollout restart deployment/gateway")
    after = {pod.name for pod in stage.running("gateway", 3, besides=before)}
    longest = max(release.held for release in stage.releases(after))
    timeline.say("released", f"3 new pods: created held, and released by the controller within {longest * 1000:.0f} ms")
    timeline.show("kubectl rollout status deployment/gateway", stage.kubectl("rollout", "status", "deployment/gateway"))
    return longest


if __name__ == "__main__":
    sys.exit(main())
