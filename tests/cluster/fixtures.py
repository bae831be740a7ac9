"""Fixtures of every test that needs a Kubernetes cluster, in whatever folder: one control plane a worker."""

import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pytest

from testbed.cluster.application import Application
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane, Unavailable, provision, provision_helm


class Provision(Protocol):
    """Gets programs."""

    def __call__(self, *, progress: Callable[[str], None]) -> Path:
        """Give where they are.

        Raises:
            Unavailable: they cannot be had.
        """


PROVISIONS: Mapping[str, Provision] = MappingProxyType({"programs": provision, "helm_program": provision_helm})
"""What the machine may lack, by the fixture that gives it."""

_PROVIDED = pytest.StashKey[dict[str, Path | Unavailable]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get programs before the first test: no test's time limit should include a build of minutes."""
    found = session.stash.setdefault(_PROVIDED, {})
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    # Its reporter prints past pytest's capturing; an xdist worker has none, and is silent.
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    for name in filter(wanted.__contains__, PROVISIONS):
        try:
            found[name] = PROVISIONS[name](progress=reporter.write_line if reporter else lambda _: None)
        except Unavailable as reason:
            found[name] = reason


def _provided(request: pytest.FixtureRequest) -> Path:
    """Give what the fixture stands for; without it, tests are skipped, and fail under CI."""
    assert request.fixturename is not None
    found = request.session.stash[_PROVIDED][request.fixturename]
    if isinstance(found, Path):
        return found
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(str(found), pytrace=False)
    pytest.skip(str(found))


@pytest.fixture(scope="session")
def programs(request: pytest.FixtureRequest) -> Path:
    """The directory of the control plane's programs."""
    return _provided(request)


@pytest.fixture(scope="session")
def helm_program(request: pytest.FixtureRequest) -> Path:
    """The executable of helm, which only the tests of charts need."""
    return _provided(request)


@pytest.fixture(scope="session")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """A control plane, shared by the tests of a worker."""
    with ControlPlane(programs) as started:
        yield started


@pytest.fixture
def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own in which pods can be created; not opted in to admission."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    name = f"{words[:40].rstrip('-')}-{uuid.uuid4().hex[:6]}"
    plane.create_namespace(name)
    yield name
    plane.api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def installed(plane: ControlPlane) -> Iterator[Installation]:
    """Ledgergate on the plane, until the run ends."""
    with Installation(plane) as installation:
        yield installation


@pytest.fixture
def installation(installed: Installation) -> Iterator[Installation]:
    """The product, running; a test may kill its processes."""
    installed.ensure()
    yield installed
    installed.ensure()


@pytest.fixture
def application(plane: ControlPlane, installation: Installation, namespace: str) -> Application:
    """An application in a namespace of its own."""
    del installation
    return Application(plane, namespace)
