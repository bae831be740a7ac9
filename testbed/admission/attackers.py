"""Clients that use up a server's connections, in a process of their own.

python -m testbed.admission.attackers KIND PORT COUNT

idle       connected, TLS handshake done, silent
slow       the same, and a byte of a request's headers every half second
half-open  connected, without a handshake

A connection that the server closes is opened again, at a limited rate. Prints `ready` once every connection has been
open, and attacks until it is killed.
"""

import asyncio
import os
import resource
import ssl
import sys
from contextlib import suppress

KINDS = ("idle", "slow", "half-open")
AT_A_TIME = 64
"""Connections that are opened at a time."""
REOPENED = 50.0
"""Connections a second that are opened again: as many as one attacker can afford."""
PACE = 0.5
"""Seconds between two bytes of a slow client."""
HEAD = b"POST /validate?timeout=10s HTTP/1.1\r\nHost: x\r\nX-Padding: "


class Attack:
    """One attack.

    Args:
        kind: one of `KINDS`.
        port: the server's, on 127.0.0.1.
    """

    def __init__(self, kind: str, port: int) -> None:
        self._kind = kind
        self._port = port
        self._opening = asyncio.Semaphore(AT_A_TIME)
        self._opened = 0
        self._next = 0.0
        self.ready = asyncio.Event()
        self._context = None if kind == "half-open" else ssl.create_default_context()
        if self._context is not None:
            self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE

    async def run(self, count: int) -> None:
        """Attack with a number of connections until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._keep_open(count))

    async def _keep_open(self, count: int) -> None:
        first = True
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                async with self._opening:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._context)
                try:
                    if first:
                        first, self._opened = False, self._opened + 1
                        if self._opened == count:
                            self.ready.set()
                    await self._use(reader, writer)
                finally:
                    writer.close()
            await self._wait_for_turn()

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do with a connection what the attack does, until the server has closed it."""
        if self._kind != "slow":
            await reader.read()
            return
        writer.write(HEAD)
        while not reader.at_eof():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(PACE)

    async def _wait_for_turn(self) -> None:
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now) + 1 / REOPENED
        await asyncio.sleep(self._next - now)


async def main(kind: str, port: int, count: int) -> None:
    """Attack until killed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack = Attack(kind, port)
    running = asyncio.create_task(attack.run(count))
    await attack.ready.wait()
    os.nice(10)  # real attackers run on other machines: here they must not take the good client's CPU
    print("ready", flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
