"""Fixtures of all tests that need a Kubernetes cluster: one control plane per worker."""

import os
import re
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pytest

from testbed.cluster.application import Application
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane, Unavailable, provision, provision_helm
from testbed.gitops.programs import provision_argo_cd


class Provision(Protocol):
    """A function that finds, fetches or builds programs."""

    def __call__(self, *, progress: Callable[[str], None]) -> Path:
        """Return the path of the programs.

        Raises:
            Unavailable: they are not available.
        """


PROVISIONS: Mapping[str, Provision] = MappingProxyType(
    {
        "programs": provision,
        "helm_program": provision_helm,
        "argo_cd_program": provision_argo_cd,
    }
)
"""Providers of programs that the machine may lack, by the name of their fixture."""

LOG_SHOWN = 8000
"""Characters of a process's log that are shown below a failed test."""

_PROVIDED = pytest.StashKey[dict[str, Path | Unavailable]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Provide the programs before the first test, so that a build of minutes does not count as a test's time."""
    found = session.stash.setdefault(_PROVIDED, {})
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    # The terminal reporter is not captured. An xdist worker has none and prints nothing.
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    for name in filter(wanted.__contains__, PROVISIONS):
        try:
            found[name] = PROVISIONS[name](progress=reporter.write_line if reporter else lambda _: None)
        except Unavailable as reason:
            found[name] = reason


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the logs below a failed test that uses the shared installation."""
    report = yield
    used = getattr(item, "funcargs", {})
    installation, plane = used.get("installation"), used.get("plane")
    if report.when == "call" and report.failed and isinstance(installation, Installation):
        logs = {name: installation.log(name) for name in ("controller", "webhook")}
        if isinstance(plane, ControlPlane):
            logs["controller-manager"] = (plane.logs / "kube-controller-manager.log").read_text()
        report.sections += [(f"end of the log of the {name}", text[-LOG_SHOWN:]) for name, text in logs.items()]
    return report


def _provided(request: pytest.FixtureRequest) -> Path:
    """Return the programs of the requesting fixture; without them tests are skipped, and fail under CI."""
    assert request.fixturename is not None
    found = request.session.stash[_PROVIDED][request.fixturename]
    if isinstance(found, Path):
        return found
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(str(found), pytrace=False)
    pytest.skip(str(found))


@pytest.fixture(scope="session")
def programs(request: pytest.FixtureRequest) -> Path:
    """Directory of the control plane's programs."""
    return _provided(request)


@pytest.fixture(scope="session")
def helm_program(request: pytest.FixtureRequest) -> Path:
    """Executable of helm."""
    return _provided(request)


@pytest.fixture(scope="session")
def argo_cd_program(request: pytest.FixtureRequest) -> Path:
    """Executable of Argo CD's controller and repository server."""
    return _provided(request)


@pytest.fixture(scope="session")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """Control plane that the tests of a worker share."""
    with ControlPlane(programs) as started:
        yield started


@pytest.fixture
def policy_cluster(plane: ControlPlane) -> None:
    """Skip the test before Kubernetes 1.36, where the API server does not hold pods by itself."""
    if not plane.has_policy:
        pytest.skip("since Kubernetes 1.36: MutatingAdmissionPolicy")


@pytest.fixture
def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """Namespace for one test, in which pods can be created; not opted in to admission."""
    slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    name = f"{slug[:40].rstrip('-')}-{uuid.uuid4().hex[:6]}"
    plane.create_namespace(name)
    yield name
    plane.api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def installed(plane: ControlPlane) -> Iterator[Installation]:
    """Ledgergate on the shared plane."""
    with Installation(plane) as installation:
        yield installation


@pytest.fixture
def installation(installed: Installation) -> Iterator[Installation]:
    """Ledgergate, running; a test may kill its processes."""
    installed.ensure()
    yield installed
    installed.ensure()


@pytest.fixture
def application(plane: ControlPlane, installation: Installation, namespace: str) -> Application:
    """Application in the test's namespace."""
    del installation
    return Application(plane, namespace)
