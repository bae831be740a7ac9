"""Watching a command that creates its tool's lock table and takes the row: when the watch knows whose row it is."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import asyncpg
import pytest

from migrations.tools import child_sockets
from migrations.tools.child_sessions import ChildSessions
from migrations.tools.exec_mark import MarkTable
from migrations.tools.lock_watch import LockWatch
from tests.integration.test_rowlock import opened
from tests.stale_locks import KNEX_ROW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.tools.child_sessions import SeenSession

    Connection = asyncpg.Connection[asyncpg.Record]

COMMAND = "the command"


@pytest.mark.parametrize("stranger", [None, "before", "between"])
async def test_a_command_that_connects_between_two_looks(
    database: str, monkeypatch: pytest.MonkeyPatch, stranger: str | None
) -> None:
    """It is known to have taken the row, though it came after the sessions were listed, unless a stranger is there."""
    # All sessions are this process's, and so is the watch: only its name may prove which one is the command's.
    monkeypatch.setattr(child_sockets, "local_endpoints", lambda _process: frozenset())
    fetch = ChildSessions.fetch
    arrived: list[str] = []
    async with AsyncExitStack() as stack:

        async def arrive(name: str) -> Connection:
            arrived.append(name)
            connection = await asyncpg.connect(database, server_settings={"application_name": name})
            stack.push_async_callback(connection.close)
            return connection

        async def fetch_and_be_late(children: ChildSessions) -> Sequence[SeenSession]:
            seen = await fetch(children)
            if COMMAND not in arrived:
                if stranger == "between":
                    await arrive("billing")
                command = await arrive(COMMAND)
                await command.execute(KNEX_ROW.setup)
                await command.execute(KNEX_ROW.take)
            return seen

        session, location = await stack.enter_async_context(opened(database))
        marks = MarkTable(session, location)
        watch = LockWatch(session, location, marks, COMMAND, time.monotonic)
        await watch.begin("pod-1")
        if stranger == "before":
            await arrive("billing")
        monkeypatch.setattr(ChildSessions, "fetch", fetch_and_be_late)
        await watch.look()
        mark = await marks.read()
        assert mark is not None
        assert await marks.lock_row_version() is not None
        assert (mark.lock_version is not None) == (stranger is None)
