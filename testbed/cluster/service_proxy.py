"""A substitute of kube-proxy for one Service, by which the API server reaches the webhook."""

import asyncio
import random
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from types import TracebackType
from typing import Self

from testbed.cluster.balancer import pump
from testbed.cluster.container import Object
from testbed.cluster.pod_processes import PodProcess, PodProcesses


class ServiceProxy:
    """A proxy at a Service's address: each connection goes to one ready pod.

    Args:
        pods: the processes of the pods.
        service: the Service object.
    """

    def __init__(self, pods: PodProcesses, service: Object) -> None:
        self._pods = pods
        (self._port,) = service["spec"]["ports"]
        self._address = service["spec"]["clusterIP"]
        self._selector: Mapping[str, str] = service["spec"]["selector"]
        self._started = threading.Event()
        self._ready_until: dict[PodProcess, float] = {}  # by the monotonic clock

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        assert self._started.wait(10), f"cannot listen on {self._address}:{self._port['port']}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join()

    def _work(self) -> None:
        self._main = self._loop.create_task(self._serve())
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._main)
        self._loop.run_until_complete(_end())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._carry, self._address, self._port["port"])
        self._started.set()
        async with server:
            await server.serve_forever()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError), closing(writer):
            pod = await asyncio.to_thread(self._choose)
            if pod is not None:
                back, there = await asyncio.open_connection(pod.address, pod.port(self._port["targetPort"]))
                with closing(there):
                    await asyncio.gather(pump(reader, there), pump(back, writer))

    def _choose(self) -> PodProcess | None:
        """Return a selected pod that is ready, else one that is terminating, else None: the connection is closed.

        kwok sets a pod to Ready before its process is, so a rollout terminates old pods earlier than on a node,
        where they would still be in the Service.
        """
        selected = self._selected(self._pods.running())
        random.shuffle(selected)
        ready = next((each for each in selected if self._is_ready(each)), None)
        return ready or next(iter(self._selected(self._pods.leaving())), None)

    def _is_ready(self, pod: PodProcess) -> bool:
        """Return whether a pod was ready within the last period of its probe, or is now.

        A probe for each connection would delay it, which kube-proxy does not.
        """
        now = time.monotonic()
        if pod.process.poll() is None and now < self._ready_until.get(pod, now):
            return True
        if not pod.ready():
            return False
        self._ready_until[pod] = now + pod.pod["spec"]["containers"][0]["readinessProbe"]["periodSeconds"]
        return True

    def _selected(self, pods: Iterable[PodProcess]) -> list[PodProcess]:
        return [each for each in pods if self._selector.items() <= each.pod["metadata"]["labels"].items()]


async def _end() -> None:
    """Close the open connections."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.sleep(0)  # so that the closed connections' last callbacks run
