"""The example's knexfile.js in two phases, with the real Knex under `exec`, as the chart's Jobs run it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from testbed.cluster.cliscale import EXAMPLE, ledger, secret
from testbed.tools import install
from tests.integration.conftest import Ledgergate

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = ("exec", "--dialect", "knex", "--", "npm", "run", "migrate:latest")
CONTRACT, LATER = "20250201000000_drop_a.js", "20250301000000_add_c.js"
MIGRATION = "exports.up = (knex) => knex.raw({!r});\nexports.down = (knex) => knex.raw('select 1');\n"


@pytest.fixture
def application(tmp_path: Path, database: str) -> Ledgergate:
    """The example's application with one contract migration."""
    try:
        modules = install.npm(install.PINS, install.place(), print)
    except install.InstallError as error:
        pytest.skip(str(error))
    program = Ledgergate(tmp_path, database)
    home = tmp_path / "controller"
    shutil.copytree(EXAMPLE / "controller", home)
    (home / "node_modules").symlink_to(modules)
    (home / "src/contracts").mkdir()
    (home / "src/contracts" / CONTRACT).write_text(MIGRATION.format("drop table user_preferences"))
    address = {f"DB_{name.upper().replace('DATABASE', 'NAME')}": value for name, value in secret(database).items()}
    program.home = home
    program.environment |= {**address, "DB_USER": address["DB_USERNAME"], "NODE_ENV": "production"}
    return program


async def test_contracts_wait_for_their_phase(application: Ledgergate, database: str) -> None:
    """The expand phase leaves src/contracts, before and after it is applied; the other phase applies everything."""

    def migrate(phase: str, *flags: str) -> None:
        done = application(*COMMAND[:1], *flags, *COMMAND[1:], LEDGERGATE_PHASE=phase)
        assert done.returncode == 0, done.stdout + done.stderr

    needed = application("revision", "--dialect", "knex", "--dir", "src/migrations").stdout.strip()
    migrate("expand", "--expect", needed)
    expanded = await ledger(database)
    assert CONTRACT not in expanded
    migrate("contract", "--expect", CONTRACT)
    assert await ledger(database) == [*expanded, CONTRACT]

    (application.home / "src/migrations" / LATER).write_text(MIGRATION.format("create table later (id bigint)"))
    later = application("revision", "--dialect", "knex", "--dir", "src/migrations").stdout.strip()
    migrate("expand", "--expect", later)
    assert await ledger(database) == [*expanded, CONTRACT, LATER]
    migrate("", "--expect", later)  # as before: nothing is left
    assert await ledger(database) == [*expanded, CONTRACT, LATER]
