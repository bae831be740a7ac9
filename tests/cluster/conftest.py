"""Fixtures of the tests in this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.application import FIRST, Application, migrate, write_migrations
from testbed.cluster.helm import Helm, temporary_home
from testbed.controlplane import ControlPlane
from testbed.waiting import until
from tests.cluster.fixtures import helm_program

__all__ = ["helm_program"]


@pytest.fixture(scope="module")
def helm(helm_program: Path, plane: ControlPlane) -> Iterator[Helm]:
    """Helm on the shared control plane."""
    with temporary_home() as home:
        yield Helm(helm_program, plane, Path(home))


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """Directory of small migrations, one table each."""
    return write_migrations(tmp_path / "migrations")


@pytest.fixture
def behind(application: Application, database: str, tmp_path: Path) -> Application:
    """Application whose ledger is at FIRST."""
    migrate(write_migrations(tmp_path / "migrations"), database, "--to", FIRST)
    application.opt_in(database)
    until("the ledger to be read", lambda: application.status().get("head") == FIRST)
    return application
