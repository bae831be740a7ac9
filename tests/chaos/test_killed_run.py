"""SIGKILL of `up` at any message between it and the server: the next run does the rest, and nothing twice."""

from __future__ import annotations

import asyncio
import os
import random
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from testbed import forks
from testbed.postgres import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from testbed.forks import Fork

    Connection = asyncpg.Connection[asyncpg.Record]

SEED = 20250126
POINTS = 200
SHARES = 10  # tests that the points are dealt to
MIGRATIONS = 24  # three of each kind, but for the first
MESSAGES = 440
"""About how many messages a whole run sends; a point beyond its end is a run that is not killed."""

UNANSWERED = b"PBDEC"
"""Kinds of messages that are answered only with the Sync or Flush that follows: Parse, Bind, Describe, Execute, Close.

Source: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
"""


class When(Enum):
    """When the process is killed."""

    BEFORE = "before the message reaches the server"
    AFTER = "as soon as it has"
    ANSWERED = "when the server has answered, before the process knows"


@dataclass
class Point:
    """Where a run is killed.

    Attributes:
        message: At which of the messages that it sends, from 1.
        when: How far that gets.
        victim: The process.
    """

    message: int
    when: When
    victim: Fork | None = None
    sent: int = field(default=0)

    def kill(self) -> None:
        """Kill the process."""
        assert self.victim is not None
        self.victim.kill()


def points(share: int) -> list[Point]:
    """Return the points of one share; always the same ones."""
    chance = random.Random(SEED)  # noqa: S311 - a seed, no secret
    drawn = [Point(chance.randint(1, MESSAGES), chance.choice(list(When))) for _ in range(POINTS)]
    return drawn[share::SHARES]


def write_migrations(directory: Path) -> None:
    """Write migrations of all kinds; number N inserts `N` into the table `effects` once."""
    directory.mkdir()
    effect = "insert into effects values ({0});"
    kinds = {
        0: ("sql", "", f"create table t{{0}} (id int, note text); {effect}"),
        1: (
            "sql",
            "transaction:false",
            f"{effect}\ncreate index concurrently t{{1}}_id on t{{1}} (id);\ncreate table u{{0}} (id int);",
        ),
        2: ("py", "", 'async def up(connection):\n    await connection.execute("insert into effects values ({0})")\n'),
        3: (
            "sql",
            "transaction:false",
            f"set work_mem = '8MB';\nbegin;\ncreate table u{{0}} (id int);\n{effect}\ncommit;\nvacuum effects;",
        ),
        4: ("sql", "", f"alter table t{{2}} add column more int;\n{effect}"),
        5: (
            "sql",
            "transaction:false",
            f"reindex index concurrently t{{3}}_id;\ndrop index concurrently t{{3}}_id;\n{effect}",
        ),
        6: (
            "py",
            "",
            (
                "transaction = False\n\nasync def up(connection):\n"
                '    await connection.execute("insert into effects values ({0})")\n'
            ),
        ),
        7: ("sql", "transaction:false", "create table u{0} (id int);\ncall leave({0});"),
    }
    setup = (
        "create table effects (number int);\n"
        "create procedure leave(number int) language plpgsql as $$ begin commit; insert into effects values (number);"
        " commit; end $$;\ninsert into effects values (0)"
    )
    (directory / "20250101000000_m.sql").write_text(f"-- migrate:up\n{setup}\n")
    for number in range(1, MIGRATIONS):
        kind, options, text = kinds[(number - 1) % len(kinds)]
        text = text.format(number, number - 1, number - 4, number - 5)
        head = f"-- migrate:up {options}\n" if kind == "sql" else ""
        (directory / f"{20250101000000 + number}_m.{kind}").write_text(head + text)


@asynccontextmanager
async def proxy(database: str, point: Point) -> AsyncIterator[str]:
    """Run a proxy between a run and the server that kills the run at its point; yield the proxy's URL."""
    parsed = urlsplit(database)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        upstream, server = await asyncio.open_connection(parsed.hostname, parsed.port)
        answers = asyncio.create_task(_copy(upstream, writer))
        try:
            await _forward(reader, server, upstream, answers, point)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            answers.cancel()
            with suppress(asyncio.CancelledError):
                await answers
            for each in (server, writer):
                each.close()
                with suppress(ConnectionError):
                    await each.wait_closed()

    listener = await asyncio.start_server(serve, "127.0.0.1")
    port = listener.sockets[0].getsockname()[1]
    try:
        yield parsed._replace(netloc=f"{parsed.username}:{parsed.password}@127.0.0.1:{port}").geturl()
    finally:
        listener.close()
        await asyncio.gather(*tasks)


async def _forward(
    reader: asyncio.StreamReader,
    server: asyncio.StreamWriter,
    upstream: asyncio.StreamReader,
    answers: asyncio.Task[None],
    point: Point,
) -> None:
    """Forward message by message; the first message and a request for TLS have no type byte."""
    typed = False
    while True:
        head = await reader.readexactly(5 if typed else 4)
        length = struct.unpack("!i", head[-4:])[0]
        message = head + await reader.readexactly(length - 4)
        typed = typed or message[4:8] == b"\x00\x03\x00\x00"
        point.sent += 1
        if point.sent != point.message:
            server.write(message)
            continue
        if point.when is When.BEFORE:
            point.kill()
            return
        if point.when is When.ANSWERED:
            answers.cancel()
            with suppress(asyncio.CancelledError):
                await answers
        server.write(message)
        await server.drain()
        if point.when is When.ANSWERED and not (typed and message[0] in UNANSWERED):
            await upstream.read(1)
        point.kill()
        return


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
        writer.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the migrations are."""
    write_migrations(tmp_path / "migrations")
    return tmp_path


class Story:
    """One database, and the runs against it."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url

    def start(self, *arguments: str, url: str | None = None) -> Fork:
        """Start a run."""
        environment = {"PATH": os.environ["PATH"], "DATABASE_URL": url or self.url, "POD_NAME": "pod-1"}
        return forks.shared().start(
            "migrate", *arguments, directory=self.directory, environment=environment, output=self.directory / "output"
        )

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Run to the end, and return the exit status and the output."""
        fork = self.start(*arguments)
        code = await asyncio.to_thread(fork.wait)
        return code, fork.output

    async def killed(self, point: Point) -> None:
        """Start a run, and wait until it is dead, here and on the server."""
        async with proxy(self.url, point) as url:
            point.victim = self.start("up", url=url)
            await asyncio.to_thread(point.victim.wait)

    async def finish(self, connection: Connection) -> None:
        """Run `up` until it succeeds, resolving by hand what it must not decide."""
        for _ in range(3):
            code, output = await self.run("up")
            if code == 0:
                return
            assert code == 1, output
            assert "ledgergate migrate resolve" in output
            row = await connection.fetchrow("select * from ledgergate_migrations where state <> 'applied'")
            assert row is not None, output
            assert row["state"] in {"running", "failed"}
            assert row["revision"] in output
            number = int(row["revision"][:14]) - 20250101000000
            # Only what commits by itself is left to people: a Python file without a transaction, and a CALL.
            assert (number - 1) % 8 in {6, 7}, output
            there = await connection.fetchval("select count(*) from effects where number = $1", number)
            if not there and (number - 1) % 8 == 7:
                await connection.execute(f"drop table u{number}")
            how = "--applied" if there else "--rolled-back"
            assert (await self.run("resolve", row["revision"], how))[0] == 0
        raise AssertionError("up never succeeds")


async def agrees(connection: Connection) -> None:
    """Assert that ledger and schema agree about the transactional migrations."""
    await _alone(connection)
    if not await connection.fetchval("select to_regclass('ledgergate_migrations') is not null"):
        assert not await connection.fetchval("select to_regclass('effects') is not null")
        return
    applied = {
        int(row[0][:14]) - 20250101000000
        for row in await connection.fetch("select revision from ledgergate_migrations where state = 'applied'")
    }
    there = []
    if await connection.fetchval("select to_regclass('effects') is not null"):
        there = [row[0] for row in await connection.fetch("select number from effects order by number")]
    assert len(there) == len(set(there))
    assert applied <= set(there)
    for number in set(there) - applied:
        assert number, "the first is transactional"
        assert (number - 1) % 8 not in {0, 2, 4}, f"{number} is transactional, done and not recorded"


async def _alone(connection: Connection) -> None:
    """Wait until the server has noticed that the run is dead."""
    deadline = asyncio.get_running_loop().time() + 30
    query = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    while await connection.fetchval(f"{query} and backend_type = 'client backend'"):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def complete(connection: Connection) -> None:
    """Assert that every effect is there exactly once."""
    numbers = [row[0] for row in await connection.fetch("select number from effects order by number")]
    assert numbers == list(range(MIGRATIONS))
    rows = await connection.fetch("select revision, state from ledgergate_migrations order by revision")
    assert [int(row["revision"][:14]) - 20250101000000 for row in rows] == numbers
    assert {row["state"] for row in rows} == {"applied"}
    assert not await connection.fetch("select indexrelid::regclass from pg_index where not indisvalid")
    kept = {row[0] for row in await connection.fetch("select relname from pg_class where relname ~ '^t[0-9]+_id'")}
    assert kept == {f"t{number}_id" for number in range(1, MIGRATIONS) if number % 8 == 1 and number + 5 > MIGRATIONS}


@pytest.mark.parametrize("share", range(SHARES))
async def test_whatever_is_killed_the_next_run_does_the_rest(directory: Path, postgres: str, share: int) -> None:
    """Ledger and schema agree after the kill; in the end every effect is there exactly once."""
    for point in points(share):
        url = create_database(postgres)
        connection = await asyncpg.connect(url)
        try:
            story = Story(directory, url)
            await story.killed(point)
            await agrees(connection)
            await story.finish(connection)
            await complete(connection)
        except AssertionError as error:
            error.add_note(f"killed at message {point.message}, {point.when.value}")
            raise
        finally:
            await connection.close()
            drop_database(url)


async def test_a_run_that_is_not_killed(directory: Path, database: str) -> None:
    """The migrations succeed without a kill, and the points are spread over all messages of a run."""
    connection = await asyncpg.connect(database)
    point = Point(0, When.BEFORE)
    story = Story(directory, database)
    await story.killed(point)
    assert point.victim is not None
    assert point.victim.returncode == 0, point.victim.output
    assert 0.8 * MESSAGES < point.sent < 1.25 * MESSAGES, point.sent
    await complete(connection)
    await connection.close()
