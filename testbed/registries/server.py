"""Debian's `docker-registry`, on a port of 127.0.0.1."""

import json
import os
import signal
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.controlplane.certificates import Pair
from testbed.ports import free_ports
from testbed.tools.debian import program
from testbed.waiting import until

USER, PASSWORD = "puller", "throw-away"
# bcrypt, the only form that the server reads; of the password above, with the least cost.
_HTPASSWD = f"{USER}:$2b$04$JLBhwPRNJFJ/KCGevun0NuReVTrpq1VR7zbrqI25NXvA9/DkVzyzy\n"


class Registry:
    """One server with an empty storage.

    Args:
        directory: for its files.
        tls: its certificate and key; None for plain HTTP.
        htpasswd: whether it asks for USER and PASSWORD.
        token: the server's configuration of a token server; None for none.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tls: Pair | None = None,
        htpasswd: bool = False,
        token: dict[str, str] | None = None,
    ) -> None:
        self._directory = directory
        self._tls = tls
        (self.port,) = free_ports(1)
        self.authority = f"localhost:{self.port}"
        self.scheme = "https" if tls else "http"
        auth: dict[str, Any] = {}
        if htpasswd:
            auth["htpasswd"] = {"realm": "test", "path": str(directory / "htpasswd")}
        if token:
            auth["token"] = token
        http: dict[str, Any] = {"addr": f"127.0.0.1:{self.port}", "secret": "throw-away"}
        if tls:
            http["tls"] = {"certificate": str(directory / "tls.pem"), "key": str(directory / "tls.key")}
        self._config = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}, "delete": {"enabled": True}},
            "http": http,
            **({"auth": auth} if auth else {}),
        }

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{self.scheme}://{self.authority}"

    @property
    def log(self) -> str:
        """What it has written, with a line for each request."""
        return (self._directory / "registry.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        (self._directory / "htpasswd").write_text(_HTPASSWD)
        if self._tls:
            (self._directory / "tls.pem").write_bytes(self._tls.certificate)
            (self._directory / "tls.key").write_bytes(self._tls.key)
        file = self._directory / "config.yml"
        file.write_text(json.dumps(self._config))  # JSON is YAML
        self.start()
        return self

    def start(self) -> None:
        """Start it; after `stop` it has its old storage."""
        path, variables = program("docker-registry")
        with (self._directory / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                [path, "serve", str(self._directory / "config.yml")],
                env={**os.environ, **variables, "OTEL_TRACES_EXPORTER": "none"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until("the registry to listen", self._listens)

    def stop(self) -> None:
        """End it; its storage stays."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.log[-2000:]
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
