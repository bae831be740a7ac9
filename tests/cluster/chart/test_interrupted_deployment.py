"""A deployment that was interrupted, by helm's death or by the loss of its Job, can be continued as the docs say."""

import json

import pytest

from testbed.cluster.cliscale import CURRENT, OLDER, Cliscale
from testbed.cluster.helm import HelmError
from testbed.waiting import until

IN_PROGRESS = r"another operation \(install/upgrade/rollback\) is in progress"
WITHOUT_JOB = ("--no-hooks", "--wait", "--timeout=60s")
"""Flags with which helm waits until it is killed: its pods are held, as their migrations are not run."""


def kill_helm(cliscale: Cliscale, tag: str) -> None:
    """Kill an upgrade to an image while helm waits for its pods."""
    helm = cliscale.start_upgrade(tag, *WITHOUT_JOB)
    until("a held pod", lambda: cliscale.held("gateway"))
    assert helm.poll() is None
    helm.kill()
    helm.communicate()


def test_a_killed_upgrade_is_rolled_back(cliscale: Cliscale) -> None:
    """After SIGKILL of `helm upgrade --wait`, helm refuses an upgrade; `helm rollback` makes it possible again."""
    cliscale.upgrade(OLDER)
    cliscale.await_running("gateway", 3, OLDER)
    kill_helm(cliscale, CURRENT)
    with pytest.raises(HelmError, match=IN_PROGRESS):
        cliscale.upgrade(CURRENT)
    assert cliscale.held("gateway")
    cliscale.helm("rollback", "cliscale", "-n", cliscale.namespace)
    cliscale.await_running("gateway", 3, OLDER)
    assert cliscale.helm.history("cliscale", cliscale.namespace)[-1]["status"] == "deployed"


def test_a_killed_installation_is_uninstalled(cliscale: Cliscale) -> None:
    """After SIGKILL of the first `helm upgrade --install` there is no release to roll back to: uninstall, repeat."""
    kill_helm(cliscale, CURRENT)
    with pytest.raises(HelmError, match=IN_PROGRESS):
        cliscale.upgrade(CURRENT)
    with pytest.raises(HelmError, match="release has no"):
        cliscale.helm("rollback", "cliscale", "-n", cliscale.namespace)
    cliscale.helm("uninstall", "cliscale", "-n", cliscale.namespace)
    cliscale.upgrade(CURRENT)
    cliscale.await_running("gateway", 3, CURRENT)


def test_a_job_that_its_ttl_removes_is_not_needed(cliscale: Cliscale) -> None:
    """Once `ttlSecondsAfterFinished` has removed the Job, its held pods run, and new pods start."""
    cliscale.upgrade(CURRENT, "--set=migrations.enabled=false")
    cliscale.await_held("gateway", 3)
    found = cliscale.get("cronjob/manual-migrate")["spec"]["jobTemplate"]["spec"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}}
    whole = {**job, "spec": {**found, "ttlSecondsAfterFinished": 0}}
    cliscale.plane.kubectl("create", "-n", cliscale.namespace, "-f", "-", stdin=json.dumps(whole))
    assert cliscale.kubelet.await_run("migrate").code == 0
    until("the Job's end", lambda: not cliscale.get("jobs"))
    cliscale.await_running("gateway", 3, CURRENT)
    (before, *_) = cliscale.pods("gateway")
    cliscale.kubectl("delete", "pod", before["metadata"]["name"], "--wait=false")
    cliscale.await_running("gateway", 3, CURRENT)
