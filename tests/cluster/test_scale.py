"""Hundreds of pods that wait for one migration: what their release costs the API server."""

import logging
from collections import Counter
from pathlib import Path

from testbed.cluster.application import Application
from testbed.cluster.crowd import Crowd
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.waiting import until
from tests.cluster.request_counts import pod_patches

log = logging.getLogger(__name__)


def test_hundreds_of_held_pods_go_by_one_patch_and_one_event_each(
    application: Application, installation: Installation, database: str, tmp_path: Path
) -> None:
    """All of them go after the commit, by one patch and one Event each, and by nothing else.

    On a machine that is starved the Lease may be lost meanwhile: then the Event of a patch that was on its way is
    missing, and none is there twice. How soon they go is measured by `python -m bench scale`.
    """
    crowd = Crowd(application, database, replicas=20)
    crowd.gather()
    lost = terms_lost(installation)
    before = patches_answered(application.plane)
    delays = crowd.release(tmp_path / "migrations")
    log.info("released after %.3f s the first, %.3f s the last of %d", delays[0], delays[-1], len(delays))
    assert len(delays) == crowd.pods
    assert patches_answered(application.plane) - before <= crowd.pods
    until(
        "an Event of each release",
        lambda: len(release_events(application)) == crowd.pods or terms_lost(installation) > lost,
        pause=0.5,
    )
    assert set(release_events(application).values()) <= {1}


def terms_lost(installation: Installation) -> int:
    """Return how often the controller has lost its Lease."""
    return installation.log("controller").count("leader.lost")


def patches_answered(plane: ControlPlane) -> int:
    """Return how many patches of pods the API server has answered: one that it gave up (504) has to be repeated."""
    return pod_patches(plane) - pod_patches(plane, code="504")


def release_events(application: Application) -> Counter[str]:
    """Return how many Events report each pod's release."""
    names = application.plane.kubectl(
        "get",
        "events",
        "-n",
        application.namespace,
        "--field-selector=reason=Released",
        "-o",
        "jsonpath={range .items[*]}{.involvedObject.name} {end}",
    )
    return Counter(names.split())
