"""What must hold for each way to install and remove ledgergate: a bad pod is held until the removal is asked for."""

import subprocess
from pathlib import Path

from testbed.cluster.application import LEDGERGATE, SECOND, THIRD, Application, migrate
from testbed.cluster.guard import Guard
from testbed.waiting import until
from webhook.cli.uninstall import GUARDS


def release(guard: Guard) -> None:
    """Run what the page says to run before the manifests are deleted."""
    command = [str(LEDGERGATE), "release", "--all", "--uninstall", "--kubeconfig", str(guard.plane.kubeconfig)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def hold_a_bad_pod(guard: Guard, namespace: str, database: str, migrations: Path) -> Application:
    """Return an application with a held pod `early`, and a running one, `good`, whose migration is applied."""
    guard.serve()
    application = Application(guard.plane, namespace)
    application.secret(database)
    application.gate()
    guard.plane.kubectl("label", "namespace", namespace, "ledgergate.dev/admission=enabled")
    migrate(migrations, database, "--to", SECOND)
    until("the ledger to be read", lambda: application.status().get("head") == SECOND)
    application.deploy("early", THIRD, replicas=1)
    application.await_held("early", 1)
    application.deploy("good", SECOND, replicas=1)
    application.await_running("good", 1)
    return application


def assert_in_service(guard: Guard, application: Application) -> None:
    """Assert that pods are held and judged as before."""
    application.await_held("early", 1)
    application.deploy("late", THIRD, replicas=1)
    application.await_held("late", 1)
    assert "denied the request" in application.try_to_ungate(application.held("late")[0])
    policy = guard.plane.has_policy
    guards = [each for each in GUARDS if policy or not each.startswith("mutatingadmissionpolic")]
    guard.plane.kubectl("get", *guards)  # fails unless each of them exists
