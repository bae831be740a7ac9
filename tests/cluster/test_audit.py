"""A namespace in audit: verdicts are reported and not enforced, whatever its LedgerGates specify."""

import json
import time

from testbed.cluster.application import FIRST, THIRD, Application
from testbed.cluster.installation import Installation
from testbed.waiting import until

LABEL = "ledgergate.dev/admission"


def run(application: Application, name: str, revision: str = THIRD) -> str:
    """Run a pod that expects a revision, and return the output of kubectl."""
    declared = f"--annotations=ledgergate.dev/revision={revision}"
    subject = ("run", name, "--image=app", "--labels=guarded=true,app=x", declared, "-n", application.namespace)
    return application.plane.kubectl(*subject, check=False)


def gated(application: Application, name: str) -> bool:
    """Return whether a pod has a scheduling gate or the label `ledgergate.dev/gated`."""
    found = json.loads(application.plane.kubectl("get", "pod", name, "-n", application.namespace, "-o", "json"))
    return "schedulingGates" in found["spec"] or "ledgergate.dev/gated" in found["metadata"]["labels"]


def label(application: Application, value: str) -> None:
    """Set the namespace's label; an empty value removes it."""
    change = f"{LABEL}={value}" if value else f"{LABEL}-"
    application.plane.kubectl("label", "namespace", application.namespace, "--overwrite", change)


def until_said(application: Application, warning: str) -> str:
    """Run pods until the namespace's label is in effect: the output has this warning, or none."""

    def probe() -> str:
        said = run(application, f"probe-{time.monotonic_ns()}")
        return said if (warning in said if warning else "Warning" not in said) else ""

    return until("the label to count", probe)


def created(said: str) -> str:
    """Return the name of the created pod from the output of kubectl."""
    return next(line.split()[0].removeprefix("pod/") for line in said.splitlines() if line.endswith(" created"))


def counted(installation: Installation, reason: str) -> float:
    """Return how many warnings audit has given for a reason."""
    wanted = f'outcome="warned",reason="{reason}",webhook="audit.ledgergate.dev"'
    lines = [line for line in installation.metrics("webhook").splitlines() if wanted in line and "_total{" in line]
    return sum(float(line.split()[-1]) for line in lines)


def test_audit_warns_and_enforces_nothing(application: Application, installation: Installation, database: str) -> None:
    """What Enforce would deny or hold starts at once with a warning, and is counted; the same goes for workloads."""
    application.opt_in(database, onBehind="Deny", onBehindWorkload="Deny", readiness="Latch")
    label(application, "audit")
    said = until_said(application, "audit only")
    assert f"Warning: audit only: ledger app is at its beginning (nothing is applied), the pod expects {THIRD}" in said
    assert not gated(application, created(said))
    before = counted(installation, "Behind")
    run(application, "second")
    assert counted(installation, "Behind") == before + 1
    pods = ("create", "deployment", "web", "--image=app", "-n", application.namespace, "--dry-run=client", "-o", "json")
    deployment = json.loads(application.plane.kubectl(*pods))
    deployment["spec"]["template"]["metadata"] |= {
        "labels": {"app": "web", "guarded": "true"},
        "annotations": {"ledgergate.dev/revision": THIRD},
    }
    applied = application.plane.kubectl(
        "apply", "-n", application.namespace, "-f", "-", stdin=json.dumps(deployment), check=False
    )
    assert "Warning: audit: pods of deployment/web would be denied: ledger app is at its beginning" in applied
    application.await_running("web", 1)


def test_in_audit_an_outage_of_the_webhook_holds_no_pod(
    application: Application, installation: Installation, database: str
) -> None:
    """Without a webhook pods start as if ledgergate were not there."""
    application.opt_in(database)
    label(application, "audit")
    until_said(application, "audit only")
    installation.kill("webhook")
    assert "created" in run(application, "second")
    assert not gated(application, "second")


def test_without_the_label_nothing_is_said(application: Application, database: str) -> None:
    """Taking the label off opts the namespace out, at once and entirely."""
    application.opt_in(database)
    assert "the pod is held until it is applied" in run(application, "held", FIRST)
    assert gated(application, "held")
    label(application, "")
    said = until_said(application, "")
    assert not gated(application, created(said))
