"""The pods of ledgergate as processes of this machine, so that an installation is tested as its manifests define it.

kwok only sets a pod's status. Here its container runs with the arguments, environment, service account and probes of
the specification, at a separate address. Differences from a node: no image, no limits, and access by a kubeconfig.
"""

import base64
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import urlopen

from testbed.cluster.container import Image, Object, command, environment
from testbed.controlplane import ControlPlane, ControlPlaneError
from testbed.controlplane.api import EventStream
from testbed.waiting import until

IMAGE = Image(Path("/"), (str(Path(sys.executable).with_name("ledgergate")),))
EXIT = "test.ledgergate.dev/exit"


@dataclass(slots=True, eq=False)
class PodProcess:
    """The process of a pod's only container.

    Attributes:
        pod: the Pod as it was at the start.
        address: IP address on which it listens, instead of on every address.
        log: file of its output.
        process: the process.
    """

    pod: Object
    address: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        """The pod's name."""
        return str(self.pod["metadata"]["name"])

    @property
    def component(self) -> str:
        """`webhook`, `controller` or `release`."""
        return str(self.pod["metadata"]["labels"]["app.kubernetes.io/component"])

    def ready(self) -> bool:
        """Return whether the process runs and its readiness probe succeeds."""
        return not self.unready()

    def unready(self) -> str:
        """Return why its readiness probe fails; empty where it succeeds."""
        if self.process.poll() is not None:
            return "the process has ended"
        probe = self.pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]
        try:
            with urlopen(self._url(probe["port"], probe["path"]), timeout=2):  # noqa: S310 - http, see _url
                return ""
        except HTTPError as error:
            with error:
                return error.read().decode() or str(error)
        except OSError as error:
            return str(error) or type(error).__name__

    def metrics(self) -> str:
        """Return its metrics in Prometheus' text format."""
        with urlopen(self._url("metrics", "/metrics"), timeout=5) as answer:  # noqa: S310 - http, see _url
            text: bytes = answer.read()
        return text.decode()

    def port(self, name: str) -> int:
        """Return the number of a named port."""
        ports = self.pod["spec"]["containers"][0]["ports"]
        return int(next(each["containerPort"] for each in ports if each["name"] == name))

    def _url(self, port: str, path: str) -> str:
        return f"http://{self.address}:{self.port(port)}{path}"


class PodProcesses:
    """The processes of the pods in ledgergate's namespace; each runs as long as its Pod exists.

    Args:
        plane: control plane.
        namespace: namespace of the pods.
    """

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane = plane
        self._namespace = namespace
        self._path = f"/api/v1/namespaces/{namespace}"
        self._running: dict[str, PodProcess] = {}
        self._ever: list[PodProcess] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix="ledgergate-pods-")
        self._directory = Path(self._temporary.name)
        self._watch = self._plane.api.watch(f"{self._path}/pods", "")
        self._reader = threading.Thread(target=self._read, args=(self._watch,), daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._watch.close()
        self._reader.join()
        for each in self._ever:
            each.process.kill()
            each.process.wait()
        for thread in self._threads:
            thread.join()
        self._temporary.cleanup()

    def running(self, component: str = "") -> list[PodProcess]:
        """Return the processes of pods that are not terminating, of one component if given."""
        with self._lock:
            return [each for each in self._running.values() if each.component.startswith(component)]

    def leaving(self) -> list[PodProcess]:
        """Return the processes of terminating pods that have not ended."""
        here = self.running()
        return [each for each in self._ever if each not in here and each.process.poll() is None]

    def logs(self) -> str:
        """Return the output of all pods, for the message of a failure."""
        files = sorted(self._directory.glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text()}" for file in files)

    def _read(self, events: EventStream) -> None:
        for event in events:
            pod = event["object"]
            gone = event["type"] == "DELETED" or "deletionTimestamp" in pod["metadata"]
            with self._lock:
                known = self._running.get(pod["metadata"]["uid"])
            if gone and known is not None:
                self._stop(known)
            elif not gone and known is None and pod["status"].get("phase") == "Running":
                with suppress(ControlPlaneError):  # no service account: a kubelet could not start it either
                    self._start(pod)

    def _start(self, pod: Object) -> None:
        (container,) = pod["spec"]["containers"]
        address = _address()
        variables = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._directory),
            **environment(pod, container, _no_lookup),
            "LEDGERGATE_KUBECONFIG": str(self._kubeconfig(pod)),
        }
        words = [f"{address}{word}" if word.startswith(":") else word for word in command(container, IMAGE, variables)]
        for there, here in self._secrets(pod, container).items():
            words = [word.replace(there, here) for word in words]
        log = self._directory / f"{pod['metadata']['name']}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                words, env=variables, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        started = PodProcess(pod, address, log, process)
        with self._lock:
            self._running[pod["metadata"]["uid"]] = started
        self._ever.append(started)
        if pod["spec"]["restartPolicy"] != "Always":
            self._later(lambda: self._report(started))

    def _secrets(self, pod: Object, container: Object) -> dict[str, str]:
        """Write the mounted Secrets; return the directory that replaces each mount path."""
        names = {each["name"]: each["secret"]["secretName"] for each in pod["spec"]["volumes"] if "secret" in each}
        found = {}
        for mount in container.get("volumeMounts", ()):
            if mount["name"] in names:
                directory = self._directory / pod["metadata"]["name"] / mount["name"]
                directory.mkdir(parents=True)
                self._write(names[mount["name"]], directory)
                found[mount["mountPath"]] = str(directory)
        return found

    def _write(self, secret: str, directory: Path) -> None:
        """Wait for a Secret, as a kubelet does before it starts a container, and write its files."""
        named = {"fieldSelector": f"metadata.name={secret}"}
        (found,) = until(f"Secret {secret}", lambda: self._plane.api.get(f"{self._path}/secrets", **named)["items"])
        for name, value in found["data"].items():
            (directory / name).write_bytes(base64.b64decode(value))

    def _report(self, ended: PodProcess) -> None:
        """Wait for the end of a container and annotate its pod with the exit code, for kwok."""
        code = ended.process.wait()
        with suppress(ControlPlaneError):  # the pod may be deleted
            self._plane.api.merge(f"{self._path}/pods/{ended.name}", {"metadata": {"annotations": {EXIT: str(code)}}})

    def _stop(self, one: PodProcess) -> None:
        with self._lock:
            self._running.pop(one.pod["metadata"]["uid"], None)
        self._later(lambda: _terminate(one))

    def _later(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _kubeconfig(self, pod: Object) -> Path:
        """Write the kubeconfig of a pod; as on a node, each pod has a separate token."""
        path = self._directory / f"{pod['metadata']['name']}.kubeconfig"
        shutil.copy(self._plane.kubeconfig_for(self._namespace, pod["spec"]["serviceAccountName"]), path)
        return path


def _address() -> str:
    """Return a random loopback address, as pods of other planes and terminating pods listen on the same ports.

    kwok's addresses are not unique: the first pod of each plane has the same one, and a pod may get the address of
    a deleted one.
    """
    return str(IPv4Address("127.97.0.1") + random.randrange(10_000_000))  # noqa: S311 - not for security


def _terminate(one: PodProcess) -> None:
    one.process.send_signal(signal.SIGTERM)
    try:
        one.process.wait(one.pod["spec"]["terminationGracePeriodSeconds"])
    except subprocess.TimeoutExpired:
        one.process.kill()
        one.process.wait()


def _no_lookup(kind: str, name: str) -> dict[str, Any]:
    raise AssertionError(f"the pods of ledgergate read no {kind} {name} by their environment")
