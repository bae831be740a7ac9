"""An HTTP client of the API server: a request takes milliseconds, while kubectl needs 0.1 s of CPU to start."""

import http.client
import json
import logging
import select
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import yaml

from testbed.controlplane.processes import ControlPlaneError
from testbed.waiting import until

log = logging.getLogger(__name__)

MANAGER = "kubectl"
"""Field manager of server-side apply: the one of kubectl, so that both can apply the same object."""

TIMEOUT = 30.0
LATE_WEBHOOK = ("failed calling webhook", "context deadline exceeded")
"""What the API server's message has where a webhook that fails closed has not answered in time."""
RETRIES = 2


class EventStream:
    """The events of a watch, from an answer whose head has arrived: the server sees every later change.

    Iteration ends when the server or `close` ends the watch.
    """

    def __init__(self, connection: http.client.HTTPSConnection, answer: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._socket: socket.socket = connection.sock
        self._answer = answer

    def __iter__(self) -> Iterator[Any]:
        with suppress(OSError, http.client.HTTPException, ValueError):  # half a line is the end, too
            for line in self._answer:
                yield json.loads(line)
        self._connection.close()

    def close(self) -> None:
        """End the watch; another thread that iterates comes to the end."""
        with suppress(OSError):
            # Not SSLSocket's, which takes the TLS session from under the thread that reads.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Api:
    """A client of an API server for one user; any thread may use it.

    It keeps its connections: a handshake with certificates costs both sides more than most requests do, and a test
    that waits asks twenty times a second.

    Args:
        port: Port of the API server on 127.0.0.1.
        tls: Context that trusts the server and has the user's certificate.
    """

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        self._port = port
        self._tls = tls
        self._paths: dict[tuple[str, str], tuple[str, bool]] = {}
        self._idle: list[http.client.HTTPSConnection] = []

    def close(self) -> None:
        """Close the connections that no request uses."""
        while self._idle:
            self._idle.pop().close()

    def get(self, path: str, **parameters: str) -> Any:
        """Get an object or a list, such as `/api/v1/namespaces/NAMESPACE/pods` with a `labelSelector`."""
        return self._ask("GET", path, parameters)

    def watch(self, path: str, version: str) -> EventStream:
        """Watch a collection from a resource version on; return when the watch is established.

        Without a version (`""`) it begins with an event for each object that exists.

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes

        Raises:
            ControlPlaneError: The server refused or did not answer.
        """
        query = urlencode({"watch": "1", "resourceVersion": version})
        connection = self._connection()
        try:
            connection.request("GET", f"{path}?{query}")
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ControlPlaneError(f"GET {path}: {error!r}") from error
        if answer.status != http.HTTPStatus.OK:
            connection.close()
            raise ControlPlaneError(f"GET {path}: {answer.status}")
        connection.sock.settimeout(None)  # nothing may change for long
        return EventStream(connection, answer)

    def create(self, path: str, body: Mapping[str, Any]) -> Any:
        """Create an object in a collection."""
        return self._ask("POST", path, body=body)

    def merge(self, path: str, patch: Mapping[str, Any]) -> Any:
        """Patch an object by a JSON merge patch (RFC 7386)."""
        return self._ask("PATCH", path, body=patch, content="application/merge-patch+json")

    def strategic(self, path: str, patch: Mapping[str, Any]) -> Any:
        """Patch an object by a strategic merge patch, which `kubectl patch` sends for the kinds of Kubernetes."""
        return self._ask("PATCH", path, body=patch, content="application/strategic-merge-patch+json")

    def delete(self, path: str) -> None:
        """Delete an object, without waiting until it is gone."""
        self._ask("DELETE", path)

    def apply(self, manifest: str) -> None:
        """Apply the documents of a YAML text in order, as `kubectl apply --server-side` does.

        One that a webhook's late answer refuses is applied again, as a controller does: the machine was busy.
        """
        for document in filter(None, yaml.safe_load_all(manifest)):
            path = self._path(document)
            self._ask_again("PATCH", path, {"fieldManager": MANAGER}, document, "application/apply-patch+yaml")

    def _ask_again(self, *request: Any) -> None:
        """Send a request; send it again where a webhook's late answer refuses it."""
        for _ in range(RETRIES):
            try:
                self._ask(*request)
            except ControlPlaneError as error:
                if not all(words in str(error) for words in LATE_WEBHOOK):
                    raise
                log.warning("asked again: %s", error)
            else:
                return
        self._ask(*request)

    def _path(self, document: Mapping[str, Any]) -> str:
        """Return the path of an object; wait for its kind, which is served some time after its CRD is Established."""
        version, kind, metadata = document["apiVersion"], document["kind"], document["metadata"]
        base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        if (version, kind) not in self._paths:
            until(f"{version} {kind} to be served", lambda: self._discover(version, base, kind))
        plural, namespaced = self._paths[version, kind]
        namespace = f"/namespaces/{metadata.get('namespace', 'default')}" if namespaced else ""
        return f"{base}{namespace}/{plural}/{metadata['name']}"

    def _discover(self, version: str, base: str, kind: str) -> bool:
        """Read the kinds of a version; return whether the kind is one of them.

        Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
        """
        status, answer = self._send("GET", base)
        served: Sequence[Mapping[str, Any]] = answer["resources"] if status == http.HTTPStatus.OK else ()
        for each in served:
            if "/" not in each["name"]:
                self._paths[version, each["kind"]] = each["name"], each["namespaced"]
        return (version, kind) in self._paths

    def _ask(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
    ) -> Any:
        """Send a request and return the answer's body.

        Raises:
            ControlPlaneError: The server refused or did not answer; the message has the reason.
        """
        query = f"{path}?{urlencode(parameters)}" if parameters else path
        status, answer = self._send(method, query, body, content)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise ControlPlaneError(f"{method} {path}: {status}, {answer['message']}")
        return answer

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, content: str = "application/json"
    ) -> tuple[int, Any]:
        connection = self._kept() or self._connection()
        try:
            connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": content})
            answer = connection.getresponse()
            found = answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            connection.close()
            raise ControlPlaneError(f"{method} {path}: {error!r}") from error
        except BaseException:  # such as a test's timeout: half an answer may be left
            connection.close()
            raise
        self._idle.append(connection)
        return found

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=TIMEOUT, context=self._tls)

    def _kept(self) -> http.client.HTTPSConnection | None:
        """Take an idle connection; None without one that the server has left open."""
        while self._idle:
            with suppress(IndexError):  # another thread was quicker
                connection = self._idle.pop()
                if connection.sock is not None and not _readable(connection.sock):
                    return connection
                connection.close()
        return None


def _readable(idle: socket.socket) -> bool:
    """Return whether there is something to read: of an idle connection, that the server has ended it."""
    poll = select.poll()  # unlike select.select it takes any descriptor
    poll.register(idle, select.POLLIN)
    return bool(poll.poll(0))
