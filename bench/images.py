"""How long after the label of a new image is known the pods that waited for it are released."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.release import summary
from testbed.cluster.application import FIRST, Application, migrate, write_migrations
from testbed.cluster.crowd import first_ungated
from testbed.cluster.installation import Installation
from testbed.cluster.pod_watch import PodWatch, Sight
from testbed.controlplane import ControlPlane
from testbed.postgres import Postgres
from testbed.registries.repository import Images, controller_flags
from testbed.registries.server import Registry
from testbed.waiting import until

IMAGES = 20
PODS, CROWD = 3, 15
"""Pods of each image: where the images come one after the other, and where all come at once."""
SECONDS = 0.15
"""Target: until the last pod of an image is released, at most."""


def measure(plane: ControlPlane, postgres: Postgres, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measure in milliseconds, with a registry on this machine; the ledger has what every image needs."""
    found: dict[str, Any] = {"figures": []}
    with TemporaryDirectory() as directory, Registry(Path(directory)) as registry:
        installation = Installation(plane)
        installation.controller_flags = controller_flags(registry)
        migrations = write_migrations(Path(directory, "migrations"), (FIRST,))
        with installation:
            for how, replicas, run in (("one after the other", PODS, _in_turn), ("at once", CROWD, _at_once)):
                progress(f"{IMAGES} images of {replicas} pods, {how}")
                namespace = f"images-{replicas}"
                application = _application(plane, namespace)
                database = postgres.create_database()
                migrate(migrations, database)
                application.opt_in(database, expect={"image": {}})
                sights = run(application, Images(registry, namespace), replicas)
                delays = waits(sights, labels_known(installation.log("controller"), namespace))
                what = f"{IMAGES} images of {replicas} pods {how}"
                found |= {
                    f"first pod of each of {what}": summary(min(each) for each in delays.values()),
                    f"every pod of {what}": summary(second for each in delays.values() for second in each),
                }
                found["figures"].append(_figure(what, delays))
    return found


def labels_known(log: str, namespace: str) -> dict[str, float]:
    """Return when the controller knew what each image of a namespace needs, by the last part of the image's name.

    By its log event ``image.read``, which it writes in the same step; admission knows it later, by the gate's status.

    Args:
        log: the controller's.

    Returns:
        Unix time, cut to milliseconds.
    """
    pattern = rf"^(\S+) +info +image\.read +namespace={namespace} image=\S+/([^/@\s]+)@"
    times: dict[str, float] = {}
    for stamp, name in re.findall(pattern, log, re.MULTILINE):
        times.setdefault(name, datetime.fromisoformat(stamp).timestamp())
    return times


def waits(sights: Sequence[Sight], known: Mapping[str, float]) -> dict[str, list[float]]:
    """Return for how many seconds each held pod waited on although its label was known, by image.

    From the moment of the label, or of its first sight where the pod was created later and admission, which did not
    know the label yet, held it too. A pod that was never held has not waited.

    Args:
        sights: of pods whose label `app` is the last part of their image's name, oldest first.
        known: Unix time, by that name.
    """
    held: dict[str, Sight] = {}
    for sight in sights:
        if sight.gated:
            held.setdefault(sight.name, sight)
    found: dict[str, list[float]] = {}
    for name, at in first_ungated(sights).items():
        if name in held:
            app = held[name].labels["app"]
            found.setdefault(app, []).append(at - max(known[app], held[name].at))
    return found


def _figure(what: str, delays: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    last = max(max(each) for each in delays.values())
    return {
        "figure": f"seconds until the last pod of an image, of {what}, at most",
        "ratio": round(last, 3),
        "target": SECONDS,
        "holds": last <= SECONDS,
    }


def _in_turn(application: Application, images: Images, replicas: int) -> list[Sight]:
    with PodWatch(application.plane, application.namespace) as watch:
        for number, reference in enumerate(_push(images)):
            application.deploy(f"app{number}", None, image=reference, replicas=replicas)
            application.await_running(f"app{number}", replicas)
        return _released(watch, IMAGES * replicas)


def _at_once(application: Application, images: Images, replicas: int) -> list[Sight]:
    references = list(_push(images))
    with PodWatch(application.plane, application.namespace) as watch:
        for number, reference in enumerate(references):
            application.deploy(f"app{number}", None, image=reference, replicas=replicas)
        return _released(watch, IMAGES * replicas)


def _push(images: Images) -> Iterator[str]:
    for number in range(IMAGES):
        # Each with a digest of its own: of the names of one digest the controller keeps the newest eight.
        yield images.push("1", FIRST, f"{images.repository}/app{number}", build=str(number))


def _released(watch: PodWatch, pods: int) -> list[Sight]:
    until(f"{pods} released pods", lambda: len(first_ungated(watch.sights)) == pods, timeout=150, pause=0.2)
    return watch.sights


def _application(plane: ControlPlane, namespace: str) -> Application:
    plane.create_namespace(namespace)
    return Application(plane, namespace)
