"""A controller that may reach the registry of the tests, and an application whose gate asks images."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.application import FIRST, Application, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.registries.repository import Images, controller_flags
from testbed.registries.server import Registry
from testbed.waiting import until
from tests.registries.conftest import registry_program

__all__ = ["registry_program"]


@pytest.fixture(scope="module")
def registry(registry_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry on plain HTTP."""
    assert registry_program
    with Registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="module")
def flags(registry: Registry) -> tuple[str, ...]:
    """The controller's flags, with which it may ask the registry."""
    return controller_flags(registry)


@pytest.fixture(scope="module")
def installed_with_registry(installed: Installation, flags: tuple[str, ...]) -> Iterator[Installation]:
    """Ledgergate, whose controller may ask the registry."""
    installed.ensure()
    installed.kill("controller")
    installed.controller_flags = flags
    installed.start_controller()
    yield installed
    installed.controller_flags = ()
    installed.kill("controller")
    installed.ensure()


@pytest.fixture
def images(registry: Registry, namespace: str) -> Images:
    """The repository of the test."""
    return Images(registry, f"shop/{namespace}")


@pytest.fixture
def shop(installed_with_registry: Installation, application: Application, database: str, tmp_path: Path) -> Application:
    """Application whose gate asks images, and whose ledger is at FIRST."""
    del installed_with_registry
    migrate(write_migrations(tmp_path / "migrations"), database, "--to", FIRST)
    application.opt_in(database, expect={"image": {}})
    until("the ledger to be read", lambda: application.status().get("head") == FIRST)
    return application
