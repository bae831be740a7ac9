"""What the tests of charts may ask for, beside the fixtures of every test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane, Unavailable, provision_helm
from tests.cluster.helm import Helm, temporary_home

PROGRAM = pytest.StashKey[Path | Unavailable]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get helm before the first test: no test's time limit should include a build of minutes."""
    wanted = any("helm_program" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        try:
            session.stash[PROGRAM] = provision_helm(progress=reporter.write_line if reporter else lambda _: None)
        except Unavailable as reason:
            session.stash[PROGRAM] = reason


@pytest.fixture(scope="session")
def helm_program(request: pytest.FixtureRequest) -> Path:
    """The executable; without it, tests are skipped, and fail under CI."""
    found = request.session.stash[PROGRAM]
    if isinstance(found, Path):
        return found
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(str(found), pytrace=False)
    pytest.skip(str(found))


@pytest.fixture(scope="module")
def helm(helm_program: Path, plane: ControlPlane) -> Iterator[Helm]:
    """The real helm, on the test's control plane."""
    with temporary_home() as home:
        yield Helm(helm_program, plane, Path(home))
