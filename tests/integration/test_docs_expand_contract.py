"""docs/expand-contract.md: the commands of its three releases run, while each version of the application works."""

from __future__ import annotations

import asyncio
import subprocess
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import pytest
import yaml

from migrations.cli.main import migrate
from migrations.core.contract import parse_contracts
from tests.pages import blocks, marked

if TYPE_CHECKING:
    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

PAGE = "expand-contract.md"
PACE = 0.05
"""Seconds between two uses of the table by one version of the application."""


class Version(NamedTuple):
    """The statements of one version of the application; the first parameter of each is a user's email."""

    insert: str
    update: str
    select: str
    missing: str


OLD = Version(
    "insert into users (email, name) values ($1, 'Ada')",
    "update users set name = 'Ada L.' where email = $1",
    "select name from users where email = $1",
    "select count(*) from users where name is null",
)
"""Until release 1."""
NEW = Version(
    "insert into users (email, full_name) values ($1, 'Ada')",
    "update users set full_name = 'Ada L.' where email = $1",
    "select full_name from users where email = $1",
    "select count(*) from users where full_name is null",
)
"""From release 2 on."""
_numbers = count()


async def use(connection: Connection, version: Version) -> None:
    """Write and read a row as a version of the application does, which has a name for every user."""
    email = f"{next(_numbers)}@example.com"
    await connection.execute(version.insert, email)
    await connection.execute(version.update, email)
    assert await connection.fetchval(version.select, email) == "Ada L."
    assert await connection.fetchval(version.missing) == 0


async def run(ledgergate: Ledgergate, block: str, connection: Connection, *versions: Version) -> str:
    """Run a block of the page in a shell that stops at the first command that fails, while these versions are used."""

    def shell() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=ledgergate.home,
            env=ledgergate.shell,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    task = asyncio.create_task(asyncio.to_thread(shell))
    while not task.done():
        for version in versions:
            await use(connection, version)
        await asyncio.wait({task}, timeout=PACE)
    done = task.result()
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


async def test_three_releases(ledgergate: Ledgergate, connection: Connection) -> None:
    """At every moment the version that runs and the one that comes work, until the contract phase ends the old one."""
    table, add, switch, drop, contract = marked(PAGE)
    await run(ledgergate, table, connection)
    await use(connection, OLD)
    await run(ledgergate, add, connection, OLD)
    await run(ledgergate, switch, connection, OLD)
    await use(connection, NEW)
    await use(connection, OLD)  # during the rollout, and after a rollback to release 1
    printed = await run(ledgergate, drop, connection, OLD, NEW)
    assert "left for the contract phase: " in printed
    assert await connection.fetchval("select count(*) from users where name is distinct from full_name") == 0

    await run(ledgergate, contract, connection, NEW)
    await use(connection, NEW)
    with pytest.raises(asyncpg.UndefinedColumnError):  # of a pod that the guard denies
        await use(connection, OLD)
    rows = await connection.fetch("select revision, batch, compatible_from from ledgergate_migrations order by id")
    assert [row["batch"] for row in rows] == [1, 2, 3, 4]
    assert rows[3]["compatible_from"] == rows[2]["revision"]


def test_the_manifests_say_what_their_commands_do() -> None:
    """Each command line is one that the program takes; annotations, flag and the gate's boundaries agree."""
    (expand, contract), (gate,) = (list(yaml.safe_load_all(text)) for text in blocks(PAGE, "yaml"))
    for job, phase, hook in (
        (expand, "expand", "pre-install,pre-upgrade"),
        (contract, "contract", "post-install,post-upgrade"),
    ):
        pod = job["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        _, _, command, *arguments = container["command"]
        assert migrate.commands[command].make_context(command, list(arguments)).params["phase"] == phase
        assert pod["metadata"]["annotations"].get("ledgergate.dev/phase", "contract") == phase
        assert job["metadata"]["annotations"] == {"helm.sh/hook": hook}
    (brought,) = parse_contracts(contract["spec"]["template"]["metadata"]["annotations"]["ledgergate.dev/contract"])
    assert [tuple(each.values()) for each in gate["spec"]["contracts"]] == [tuple(brought)]
