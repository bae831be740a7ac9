"""What every test may ask for: a PostgreSQL server and a cluster a worker, a clone of an empty database a test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hypothesis import settings

from testbed.postgres import Postgres, create_database, drop_database
from tests.cluster.fixtures import (
    application,
    installation,
    installed,
    namespace,
    plane,
    policy_cluster,
    programs,
    pytest_collection_finish,
    pytest_runtest_makereport,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "application",
    "installation",
    "installed",
    "namespace",
    "plane",
    "policy_cluster",
    "programs",
    "pytest_collection_finish",
    "pytest_runtest_makereport",
]


# How fast an example is judged says something of the machine's load; speed is measured in bench/.
settings.register_profile("ledgergate", deadline=None)
settings.load_profile("ledgergate")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a server to make databases on: that of `DATABASE_URL`, else an embedded one."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    with Postgres() as server:
        yield server.url()


@pytest.fixture(scope="session")
def template(postgres: str) -> Iterator[str]:
    """Name of the database that `database` copies."""
    url = create_database(postgres)
    yield urlsplit(url).path.strip("/")
    drop_database(url)


@pytest.fixture
def database(postgres: str, template: str) -> Iterator[str]:
    """URL of an empty database of the test's own."""
    url = create_database(postgres, template)
    yield url
    drop_database(url)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """An embedded server of the test's own, to stop and kill."""
    with Postgres() as server:
        yield server
