"""A TCP balancer that acts as a Service does: each new connection goes to one of the current replicas."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress


class Balancer:
    """A balancer whose `ports` a test changes at any time; existing connections stay where they are."""

    def __init__(self) -> None:
        self.ports: tuple[int, ...] = ()
        self._turn = itertools.count()

    @contextmanager
    def serving(self, port: int) -> Iterator[None]:
        """Listen on a port of 127.0.0.1 until the block ends."""
        loop, started = asyncio.new_event_loop(), threading.Event()
        end = asyncio.Event()

        async def serve() -> None:
            server = await asyncio.start_server(self._carry, "127.0.0.1", port)
            started.set()
            await end.wait()
            server.close()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            assert started.wait(10), f"cannot listen on port {port}"
            yield
        finally:
            loop.call_soon_threadsafe(end.set)
            thread.join()
            loop.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError), closing(writer):
            ports = self.ports
            back, there = await asyncio.open_connection("127.0.0.1", ports[next(self._turn) % len(ports)])
            with closing(there):
                await asyncio.gather(pump(reader, there), pump(back, writer))


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy one direction of a connection until it ends, and close the target."""
    with suppress(OSError), closing(target):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
