"""An API server that sends a client certificate to the webhook, configured as docs/hardening.md says."""

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs import tls
from certs.pki import issue_authority, issue_leaf
from migrations.core.snapshot import Fault, LedgerSnapshot
from testbed.controlplane import ControlPlane
from testbed.controlplane.certificates import Authority
from testbed.controlplane.processes import ControlPlaneError
from testbed.ports import free_ports
from webhook.admission.connections import Limits, expected_client
from webhook.admission.handlers import Admission
from webhook.admission.server import AdmissionServer, Site, serving
from webhook.core.gate import Gate
from webhook.settings import Endpoint
from webhook.telemetry import Telemetry

PAGE = Path(__file__).parents[2] / "docs/hardening.md"
NOW = datetime.now(UTC)


class NoGates:
    """A namespace without LedgerGates: every pod is admitted, if the webhook is asked and answers."""

    synced = True

    def selecting(self, namespace: str, labels: object) -> list[Gate]:
        """Return none."""
        del namespace, labels
        return []

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return nothing."""
        del gate
        return LedgerSnapshot(fault=Fault.UNREAD)


@pytest.fixture(scope="module")
def clients() -> Authority:
    """The authority of the API server's client certificate."""
    return Authority(NOW)


@pytest.fixture(scope="module")
def plane(programs: Path, clients: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with the files of the page, except for their paths."""
    directory = tmp_path_factory.mktemp("admission")
    (directory / "webhook-client.pem").write_bytes((pair := clients.client("kube-apiserver")).certificate)
    (directory / "webhook-client.key").write_bytes(pair.key)
    blocks = re.findall(r"```yaml\n# (/\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = [Path(name).name for name, _ in blocks]
    assert names == ["admission.yaml", "webhooks.yaml"]
    for name, (_, text) in zip(names, blocks, strict=True):
        (directory / name).write_text(text.replace("/etc/kubernetes/admission", str(directory)))
    flags = [f"--admission-control-config-file={directory / 'admission.yaml'}"]
    with ControlPlane(programs, api_flags=flags) as started:
        yield started


async def test_the_api_server_shows_its_certificate(plane: ControlPlane, clients: Authority) -> None:
    """A webhook that expects this certificate is called with success; one that expects another name refuses."""
    ends = {"not_before": NOW - timedelta(hours=1), "not_after": NOW + timedelta(hours=1)}
    ours = issue_authority("ours", **ends)
    for number, (name, answered) in enumerate((("kube-apiserver", True), ("another", False))):
        context = tls.server_context("1.3", clients.pem.decode())
        tls.serve(context, issue_leaf(ours, ["127.0.0.1"], **ends))
        view, (port,) = NoGates(), free_ports(1)
        handler = AdmissionServer(Admission(view, view, lambda: NOW), view, Telemetry()).handle
        names = expected_client([name])
        hook = {
            "name": "verdict.ledgergate.dev",
            "clientConfig": {
                "url": f"https://127.0.0.1:{port}/validate",
                "caBundle": base64.b64encode(ours.certificate).decode(),
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        configuration = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "test"},
            "webhooks": [hook],
        }
        async with serving(Site(handler, Endpoint("127.0.0.1", port), context, Limits(), names)):
            await asyncio.to_thread(plane.apply, json.dumps(configuration))
            async with asyncio.timeout(30):
                while await asyncio.to_thread(_is_admitted, plane, f"pod-{number}") is not answered:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)  # until the API server uses the configuration


def _is_admitted(plane: ControlPlane, name: str) -> bool:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    }
    try:
        plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    except ControlPlaneError as error:
        if "failed calling webhook" not in str(error):
            raise
        return False
    return True
