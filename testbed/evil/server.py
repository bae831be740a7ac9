"""Servers with the behaviours, in a process of their own.

python -m testbed.evil.server [REAL_PORT]      # prints the port of each as JSON, and runs until its standard input ends

With REAL_PORT, the first connections of each server are passed on to the PostgreSQL server there.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from testbed.evil.behaviours import BEHAVIOURS, Reader, Writer

POLITE = 2
"""How many connections a server passes on before it misbehaves, if it has a real server to pass them to."""


class EvilPostgres:
    """A server on a free port of 127.0.0.1 with one behaviour.

    Args:
        name: of the behaviour.
        real: port of the real server to which the first :data:`POLITE` connections go; 0 for none.
    """

    def __init__(self, name: str, real: int = 0) -> None:
        self._name = name
        self._real = real
        self._connections = 0

    async def start(self) -> int:
        """Start it and return its port."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _accept(self, reader: Reader, writer: Writer) -> None:
        self._connections += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            if self._real and self._connections <= POLITE:
                await self._pass_on(reader, writer)
            else:
                await BEHAVIOURS[self._name](reader, writer)
        writer.transport.abort()

    async def _pass_on(self, reader: Reader, writer: Writer) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._real)

        async def pump(source: Reader, sink: Writer) -> None:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()

        pumps = [asyncio.create_task(pump(reader, back)), asyncio.create_task(pump(there, writer))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for each in pumps:
            each.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        back.transport.abort()


@contextmanager
def evil_servers(real: int = 0) -> Iterator[Mapping[str, int]]:
    """Run a server for each behaviour in a process of their own; yield their ports.

    Args:
        real: port of a PostgreSQL server to which the first connections go; 0 for none.
    """
    command = [sys.executable, "-m", "testbed.evil.server", str(real)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.kill()


async def _run() -> None:
    real = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    servers = {name: EvilPostgres(name, real) for name in BEHAVIOURS}
    print(json.dumps({name: await server.start() for name, server in servers.items()}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    try:
        asyncio.run(_run())
    except KeyboardInterrupt:
        sys.exit(130)
