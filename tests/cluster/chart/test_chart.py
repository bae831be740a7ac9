"""The chart, installed by the real helm: webhook and controller run from its pods, and are reached by its Service."""

import re
from functools import partial
from pathlib import Path

import pytest

from testbed.cluster.application import SECOND, THIRD, Application, migrate
from testbed.cluster.guard import CHART, CONFIGURATIONS, Guard
from testbed.cluster.helm import HelmError

CHANGED = ("--set-string", "webhook.podAnnotations.a=b,controller.podAnnotations.a=b")


def test_pods_wait_for_the_ledger(guard: Guard, application: Application, database: str, migrations: Path) -> None:
    """Installed by helm alone, reached by its Service: pods are held until the migration, and others start at once."""
    migrate(migrations, database, "--to", SECOND)
    application.deploy("early", THIRD)
    application.deploy("good", SECOND)
    application.await_running("good")
    held = application.await_held("early")
    assert "denied the request" in application.try_to_ungate(held[0])
    migrate(migrations, database)
    application.await_running("early")
    answered = "".join(each.metrics() for each in guard.pods.running("webhook"))
    # Counted by the refusal above. A good pod need not have been judged by a webhook: the controller may release it.
    assert re.search(
        r'ledgergate_admission_requests_total\{outcome="denied",reason="(Behind|Undecided)".* [1-9]', answered
    )


def test_an_upgrade_and_its_rollback_go_unnoticed(
    guard: Guard, application: Application, database: str, migrations: Path
) -> None:
    """Both replace every pod of ledgergate; the caBundle stays, held pods stay held, and no pod is refused."""
    migrate(migrations, database, "--to", SECOND)
    application.deploy("early", THIRD, replicas=1)
    application.await_held("early", 1)
    before, bundles = guard.pods.running(), guard.bundles()
    revision = guard.history()[-1]["revision"]
    for number, step in enumerate((partial(guard.upgrade, *CHANGED), partial(guard.roll_back, revision))):
        step()
        application.deploy(f"during-{number}", SECOND)
        application.await_running(f"during-{number}")
        guard.await_ready()
        assert not {each.name for each in before} & {each.name for each in guard.pods.running()}
        assert guard.bundles() == bundles
        application.await_held("early", 1)
        events = guard.plane.kubectl("get", "events", "-n", application.namespace, "--field-selector=type=Warning")
        assert "FailedCreate" not in events
        before = guard.pods.running()
    template = guard.get("deployment/ledgergate-webhook")["spec"]["template"]
    assert "annotations" not in template["metadata"], "the rollback took the upgrade's change back"
    migrate(migrations, database)
    application.await_running("early", 1)


def test_of_two_upgrades_at_once_one_is_refused(guard: Guard) -> None:
    """Helm lets one through and refuses the other; afterwards the release is whole, and ledgergate goes on serving."""
    tries = [guard.start_upgrade("--set-string", f"webhook.podAnnotations.try={number}") for number in range(2)]
    said = [each.communicate(timeout=120)[1] for each in tries]
    won = [number for number, each in enumerate(tries) if each.returncode == 0]
    assert won, said
    for number, words in enumerate(said):
        assert number in won or re.search("another operation .* is in progress|already exists", words), words
    assert [each["status"] for each in guard.history()].count("deployed") == 1
    template = guard.get("deployment/ledgergate-webhook")["spec"]["template"]
    assert template["metadata"]["annotations"]["try"] == str(won[-1]) or len(won) == 2
    guard.await_ready()


def test_helm_test_shows_whether_the_webhook_is_reached(guard: Guard) -> None:
    """It succeeds as installed, and leaves nothing; it fails, with the reason, where no webhook answers."""
    flags = ("test", guard.release, "-n", guard.namespace)
    assert "Succeeded" in guard.helm(*flags)
    left = guard.plane.kubectl("get", "jobs,sa,roles,rolebindings", "-A", "-o", "name")
    assert "ledgergate-test" not in left
    guard.plane.kubectl("delete", "namespace", f"{guard.namespace}-test", "--ignore-not-found")
    with guard.unreachable(), pytest.raises(HelmError, match="ledgergate-test"):
        guard.helm(*flags, "--timeout=90s")
    assert "verdict.ledgergate.dev" in guard.pods.logs()
    # A failed Job is kept for its log. The other tests count the pods of ledgergate, so it is deleted here.
    guard.plane.kubectl("delete", "job", "ledgergate-test", "-n", guard.namespace)
    guard.await_ready()


def test_a_second_installation_is_refused(guard: Guard, namespace: str) -> None:
    """The policy and the webhooks of a cluster have one owner; helm says whose they are."""
    owner = f'"meta.helm.sh/release-name" must equal "other": current value is "{guard.release}"'
    with pytest.raises(HelmError, match=owner):
        guard.helm("install", "other", "-n", namespace, CHART)
    guard.plane.kubectl("get", *CONFIGURATIONS)
    if guard.plane.has_policy:
        guard.plane.kubectl("get", "mutatingadmissionpolicies", "hold.ledgergate.dev")
