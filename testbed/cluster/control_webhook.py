"""A webhook that no test disturbs, called for the same pods as ledgergate's: a control that shows a busy machine.

A call of ledgergate's webhook may be late because a replica is ending, or because the machine is busy. The API server
measures the calls of both webhooks: if calls of the control were slow too, the machine was busy.

python -m testbed.cluster.control_webhook PORT CERTIFICATE KEY
"""

import asyncio
import base64
import json
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import uvloop
import yaml
from aiohttp import web

from testbed.cluster.balancer import Balancer
from testbed.controlplane import ControlPlane
from testbed.controlplane.certificates import Authority
from testbed.ports import free_ports

NAME = "control.example.com"
ROOT = Path(__file__).parents[2]
SLOW = "0.5"
"""Seconds, one of the API server's own buckets. A webhook of ledgergate that is late has taken 1 s; the control, which
does nothing, takes milliseconds."""
_CALLS = re.compile(
    rf"""^apiserver_admission_webhook_admission_duration_seconds_(?:count|bucket)
    \{{(?=[^}}]*name="{re.escape(NAME)}")([^}}]*)\}}\ (\S+)""",
    re.MULTILINE | re.VERBOSE,
)


class Calls(NamedTuple):
    """Calls of the control, as the API server has counted and measured them.

    Args:
        made: how many.
        slow: those that took longer than `SLOW`.
    """

    made: int
    slow: int


class Control:
    """The calls of the control webhook since this object was created."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._before = Calls(0, 0)
        self._before = self.calls

    @property
    def calls(self) -> Calls:
        """The calls since its creation."""
        count = quick = 0.0
        for labels, value in _CALLS.findall(self._plane.kubectl("get", "--raw", "/metrics")):
            if 'le="' not in labels:
                count += float(value)
            elif f'le="{SLOW}"' in labels:
                quick += float(value)
        return Calls(round(count) - self._before.made, round(count - quick) - self._before.slow)


@contextmanager
def control_webhook(plane: ControlPlane, namespace: str, *, balanced: bool) -> Iterator[Control]:
    """Have the API server call it for every new pod of a namespace, until the block ends.

    Args:
        balanced: by way of a balancer of this process, as the replicas of a test are.
    """
    authority = Authority(datetime.now(UTC))
    pair = authority.server(["localhost"], ["127.0.0.1"])
    behind, front = free_ports(2)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory()))
        certificate, key = directory / "server.crt", directory / "server.key"
        certificate.write_bytes(pair.certificate)
        key.write_bytes(pair.key)
        command = [sys.executable, "-m", "testbed.cluster.control_webhook", str(behind), str(certificate), str(key)]
        process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if balanced:
            balancer = Balancer()
            balancer.ports = (behind,)
            stack.enter_context(balancer.serving(front))
        kind, name = "validatingwebhookconfiguration", f"control-{namespace}"
        url = f"https://127.0.0.1:{front if balanced else behind}/"
        plane.apply(yaml.safe_dump(_configuration(name, namespace, url, authority.pem.decode())))
        stack.callback(plane.kubectl, "delete", kind, name)
        yield Control(plane)


def _configuration(name: str, namespace: str, url: str, authority: str) -> dict[str, object]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    hook = {
        "name": NAME,
        "clientConfig": {"url": url, "caBundle": _encoded(authority)},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
        "timeoutSeconds": 1,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [rule],
    }
    version, kind = "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "webhooks": [hook]}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def _allow(request: web.Request) -> web.Response:
    """Allow every request."""
    review = json.loads(await request.read())
    response = {"uid": review["request"]["uid"], "allowed": True}
    return web.json_response({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})


async def _serve(port: int, certificate: str, key: str) -> None:
    """Serve over TLS until the process is killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    application = web.Application(client_max_size=7 * 2**20)
    application.router.add_post("/", _allow)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), *sys.argv[2:]))
