"""A small kubelet for tests: runs containers that end (init containers, those of Jobs) as processes of this machine.

kwok walks a pod through its phases; this does what kwok cannot. Each container gets the command, environment and
Secrets of its specification, the pod's restart policy decides what follows its exit, and `kubectl logs` and
`kubectl exec` work. Containers that serve (those of a Deployment, native sidecars) are only reported as running.

    with Kubelet(plane, namespace, {"shop/controller:2": Image(directory)}) as kubelet:
        plane.apply(job)
        kubelet.await_run("migrate")        # the finished run: its exit code, its output, its times
"""

import asyncio
import base64
import datetime as dt
import itertools
import os
import shutil
import signal
import ssl
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.cluster.container import ConfigurationError, Image, Object, command, environment
from testbed.cluster.container_process import ContainerProcess, Run
from testbed.cluster.kubelet_server import FEATURE, serve, stop
from testbed.cluster.pod_status import PodStatus
from testbed.controlplane import ControlPlane, ControlPlaneError
from testbed.controlplane.certificates import Authority
from testbed.waiting import until

INIT = "test.ledgergate.dev/init"
"""Annotation that kwok's stages wait for: a pod with init containers runs once it is `done`."""

BACKOFF = 0.2
LONGEST_BACKOFF = 3.0
POLL = 0.02


class Kubelet:
    """The kubelet of the pods of one namespace.

    Args:
        plane: control plane.
        namespace: namespace of the pods.
        images: by the name in the pod; a container with another image cannot be created.
        backoff: seconds before a failed container is run again, doubled each time (a real kubelet begins with 10).
    """

    def __init__(
        self, plane: ControlPlane, namespace: str, images: Mapping[str, Image], *, backoff: float = BACKOFF
    ) -> None:
        self._plane = plane
        self._namespace = namespace
        self._path = f"/api/v1/namespaces/{namespace}"
        self._images = images
        self._backoff = backoff
        self._pods: dict[str, Object] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._runs: list[ContainerProcess] = []
        self._failure: BaseException | None = None
        self._started = threading.Event()

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="ledgergate-kubelet-"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self.__exit__(None, None, None)
            raise RuntimeError("the tests' kubelet did not start") from self._failure
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join()
        shutil.rmtree(self._directory, ignore_errors=True)
        if error is None and self._failure is not None:
            raise RuntimeError("the tests' kubelet failed") from self._failure

    @property
    def runs(self) -> list[Run]:
        """Every run of a container so far, oldest first."""
        return [run.seen() for run in list(self._runs)]

    def of(self, container: str, pod: str = "") -> list[Run]:
        """Return the runs of a container in the pods whose name begins with `pod`."""
        return [run for run in self.runs if run.container == container and run.pod.startswith(pod)]

    def await_run(self, container: str, pod: str = "", *, count: int = 1, timeout: float = 120) -> Run:
        """Wait until `count` runs of a container have ended, and return the last of them."""
        ended = until(
            f"{count} finished runs of {container}",
            lambda: found if len(found := [run for run in self.of(container, pod) if run.ended]) >= count else [],
            timeout=timeout,
        )
        return ended[count - 1]

    def kill(self, pod: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Wait for processes of a pod's containers, and send a signal to all of them, as an OOM kill does."""
        until(f"a process of {pod}", lambda: sum(run.signal(number) for run in list(self._runs) if run.pod == pod))

    # For kubelet_server -----------------------------------------------------------------------------------------------

    def printed(self, namespace: str, pod: str, container: str, *, previous: bool) -> Path | None:
        """Return the file with the output of a container's newest run, or of the one before."""
        found = [run.log for run in self._of(namespace, pod, container)]
        return found[-2] if previous and len(found) > 1 else found[-1] if found else None

    def running(self, namespace: str, pod: str, container: str) -> bool:
        """Return whether a container runs now."""
        return any(not run.ended for run in self._of(namespace, pod, container))

    async def execute(
        self, namespace: str, pod: str, container: str, command: Sequence[str]
    ) -> asyncio.subprocess.Process:
        """Start a command in a container's directory, with its environment."""
        if namespace != self._namespace:
            raise ConfigurationError(f"no pod {namespace}/{pod} here")
        found = self._pods[pod]
        spec = next(each for each in found["spec"]["containers"] if each["name"] == container)
        image, variables = await asyncio.to_thread(self._prepare, found, spec)
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *command, cwd=image.directory, env=variables, stdout=pipe, stderr=pipe, start_new_session=True
        )

    def _of(self, namespace: str, pod: str, container: str) -> list[ContainerProcess]:
        if namespace != self._namespace:
            return []
        return [run for run in self._runs if run.pod == pod and run.container == container]

    # The loop ---------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._serve_and_watch())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            self._failure = error
        finally:
            self._started.set()
            self._loop.close()

    async def _serve_and_watch(self) -> None:
        runner, port = await serve(self, self._tls())
        try:
            await asyncio.to_thread(self._announce, port)
            self._started.set()
            while True:
                await self._watch()
                await asyncio.sleep(self._backoff)
        finally:
            for life in self._lives.values():
                life.cancel()
            await asyncio.gather(*self._lives.values(), return_exceptions=True)
            await stop(runner)
            with suppress(ControlPlaneError):
                self._announce(0)

    async def _watch(self) -> None:
        """Follow the pods until the API server ends the watch; return at once where it does not answer."""
        try:
            stream = await asyncio.to_thread(self._plane.api.watch, f"{self._path}/pods", "")
        except ControlPlaneError:
            return
        events: asyncio.Queue[Object | None] = asyncio.Queue()

        def read() -> None:
            for event in itertools.chain(stream, (None,)):
                self._loop.call_soon_threadsafe(events.put_nowait, event)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            while (event := await events.get()) is not None:
                if event["type"] in {"ADDED", "MODIFIED", "DELETED"}:
                    self._see(event["object"], deleted=event["type"] == "DELETED")
        finally:
            stream.close()
            reader.join()

    def _see(self, pod: Object, *, deleted: bool) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        self._pods[name] = pod
        if deleted or "deletionTimestamp" in pod["metadata"]:
            if uid in self._lives:
                self._lives[uid].cancel()
        elif uid not in self._lives and _is_due(pod):
            self._lives[uid] = asyncio.create_task(self._live(pod))
            self._lives[uid].add_done_callback(self._ended)

    def _ended(self, life: asyncio.Task[None]) -> None:
        if not life.cancelled() and life.exception() is not None:
            self._failure = life.exception()

    # A pod's life -----------------------------------------------------------------------------------------------------

    async def _live(self, pod: Object) -> None:
        status = PodStatus(pod["spec"])
        inits = pod["spec"].get("initContainers", [])
        if inits:
            await self._annotate(pod, "kubelet")
            for container in inits:
                if container.get("restartPolicy") == "Always":
                    status.start(container["name"])
                elif not await self._until_done(pod, container, status):
                    return
            await self._annotate(pod, "done")
        if pod["spec"]["restartPolicy"] == "Always":
            return
        while self._pods[pod["metadata"]["name"]]["status"].get("phase") != "Running":  # noqa: ASYNC110 - by the watch
            await asyncio.sleep(POLL)
        for container in pod["spec"]["containers"]:
            if not await self._until_done(pod, container, status):
                return
        await self._report(pod, {**status.whole(), "phase": "Succeeded"})

    async def _until_done(self, pod: Object, container: Object, status: PodStatus) -> bool:
        """Run a container until it succeeds, or once under `Never`; return whether it succeeded."""
        pause, once = self._backoff, pod["spec"]["restartPolicy"] == "Never"
        while True:
            status.start(container["name"])
            await self._report(pod, status.whole())
            code, message = await self._run(pod, container)
            status.end(container["name"], code, message)
            if code == 0:
                return True
            await self._report(pod, {**status.whole(), **({"phase": "Failed"} if once else {})})
            if once:
                return False
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_BACKOFF)

    async def _run(self, pod: Object, container: Object) -> tuple[int, str]:
        name = pod["metadata"]["name"]
        run = ContainerProcess(
            name, container["name"], self._directory / f"{name}.{container['name']}.{len(self._runs)}"
        )
        self._runs.append(run)
        try:
            image, variables = await asyncio.to_thread(self._prepare, pod, container)
        except ConfigurationError as error:
            return run.refuse(error), str(error)
        code = await run.run(command(container, image, variables), image, variables)
        return code, run.message(container.get("terminationMessagePolicy"))

    def _prepare(self, pod: Object, container: Object) -> tuple[Image, dict[str, str]]:
        image = self._images.get(container["image"])
        if image is None:
            raise ConfigurationError(f"image {container['image']} is not there")
        path = os.pathsep.join([*map(str, image.path), os.environ.get("PATH", os.defpath)])
        surroundings = {
            "PATH": path,
            "HOME": str(self._directory),
            "HOSTNAME": pod["metadata"]["name"],
            "KUBERNETES_SERVICE_HOST": "10.96.0.1",
            "npm_config_update_notifier": "false",
        }
        return image, {**surroundings, **environment(pod, container, self._lookup)}

    # The API server ---------------------------------------------------------------------------------------------------

    def _lookup(self, kind: str, name: str) -> Mapping[str, str]:
        try:
            found = self._plane.api.get(f"{self._path}/{kind.lower()}s/{name}")
        except ControlPlaneError as error:
            raise ConfigurationError(str(error)) from error
        data: dict[str, str] = found.get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()} if kind == "secret" else data

    async def _annotate(self, pod: Object, value: str) -> None:
        await self._patch(pod, {"metadata": {"annotations": {INIT: value}}})

    async def _report(self, pod: Object, status: Object) -> None:
        await self._patch(pod, {"status": status}, "/status")

    async def _patch(self, pod: Object, patch: Object, subresource: str = "") -> None:
        path = f"{self._path}/pods/{pod['metadata']['name']}{subresource}"
        try:
            await asyncio.to_thread(self._plane.api.strategic, path, patch)
        except ControlPlaneError as error:
            if "not found" not in str(error):
                raise

    def _announce(self, port: int) -> None:
        """Set the port of every node's kubelet in the node's status; 0 removes it."""
        patch: dict[str, Any] = {
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "declaredFeatures": [FEATURE] if port else [],
        }
        for node in self._plane.api.get("/api/v1/nodes")["items"]:
            name = node["metadata"]["name"]
            # The API server prefers a node's host name, which does not resolve here.
            address = "127.0.0.1" if port else name
            status = {**patch, "addresses": [{"type": "InternalIP" if port else "Hostname", "address": address}]}
            self._plane.api.merge(f"/api/v1/nodes/{name}/status", {"status": status})

    def _tls(self) -> ssl.SSLContext:
        pair = Authority(dt.datetime.now(dt.UTC)).server(["kubelet"], ["127.0.0.1"])
        both = self._directory / "kubelet.pem"
        both.write_bytes(pair.certificate + pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        return context


def _is_due(pod: Object) -> bool:
    """Return whether kwok's first step is done for a pod, so that its containers are to be run."""
    spec, status = pod["spec"], pod["status"]
    if status.get("phase") in {"Succeeded", "Failed"} or not spec.get("nodeName"):
        return False
    if spec.get("initContainers"):
        begun = status.get("initContainerStatuses") or [{}]
        return INIT not in pod["metadata"].get("annotations", {}) and "running" in begun[0].get("state", {})
    return bool(spec["restartPolicy"] != "Always" and status.get("phase") == "Running")
