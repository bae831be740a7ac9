"""The CA Secret is rotated, deleted, garbled and replaced while pods are created through the real API server."""

import base64
import os
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certs.pki import issue_authority
from testbed.cluster.application import FIRST, SECOND, Application, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.waiting import until

SECRETS = "/api/v1/namespaces/ledgergate/secrets"
SECRET = f"{SECRETS}/ledgergate-ca"
SECONDS = float(os.environ.get("LEDGERGATE_TEST_CA_SECONDS", "12"))
"""How long each test goes on; 60 for a thorough run."""
EVERY = 2.0
"""Seconds between two faults."""
FAILED = re.compile(
    r"""^(apiserver_admission_webhook_(?:fail_open_count|rejection_count)\{[^}]*ledgergate\.dev"[^}]*\})\ (\S+)""",
    re.MULTILINE | re.VERBOSE,
)
RANDOM = random.Random(16)  # noqa: S311 - so that each run is the same


def failed_calls(plane: ControlPlane) -> dict[str, float]:
    """Return the API server's counts of webhook calls that failed."""
    found = {name: float(count) for name, count in FAILED.findall(plane.kubectl("get", "--raw", "/metrics"))}
    return {name: count for name, count in found.items() if "fail_open" in name or "calling_webhook_error" in name}


def replace(plane: ControlPlane) -> None:
    """Put an authority in the Secret that nobody has heard of."""
    now = datetime.now(UTC)
    pair = issue_authority("foreign", not_before=now - timedelta(hours=1), not_after=now + timedelta(days=300))
    data = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": pair.certificate}
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    plane.api.merge(SECRET, {"data": encoded})


def expire(plane: ControlPlane) -> None:
    """Put an authority in the Secret that has expired."""
    now = datetime.now(UTC)
    pair = issue_authority("old", not_before=now - timedelta(days=2), not_after=now - timedelta(days=1))
    data = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": pair.certificate}
    plane.api.merge(SECRET, {"data": {key: base64.b64encode(value).decode() for key, value in data.items()}})


def garble(plane: ControlPlane) -> None:
    """Change a byte somewhere in one of the Secret's keys."""
    data = plane.api.get(SECRET)["data"]
    key = RANDOM.choice(sorted(data))
    content = bytearray(base64.b64decode(data[key]))
    content[RANDOM.randrange(30, len(content) - 30)] ^= 0x15
    plane.api.merge(SECRET, {"data": {key: base64.b64encode(bytes(content)).decode()}})


def delete(plane: ControlPlane) -> None:
    """Delete the Secret."""
    plane.api.delete(SECRET)


def empty(plane: ControlPlane) -> None:
    """Leave the Secret without a key."""
    plane.api.merge(SECRET, {"data": None})


@contextmanager
def creating(application: Application, seen: list[str]) -> Iterator[None]:
    """Create pods, a good one and a bad one in turn, and collect what is wrong with them."""
    stop = threading.Event()

    def create() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            revision = (FIRST, SECOND)[number % 2]
            pod: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"pod-{number}",
                    "labels": {"guarded": "true", "app": "storm"},
                    "annotations": {"ledgergate.dev/revision": revision},
                },
                "spec": {"containers": [{"name": "app", "image": "app"}]},
            }
            try:
                made = application.plane.api.create(f"/api/v1/namespaces/{application.namespace}/pods", pod)
            except Exception as error:  # noqa: BLE001 - reported by the test
                seen.append(str(error))
                continue
            if (revision == SECOND) is not bool(made["spec"].get("schedulingGates")):
                seen.append(f"pod-{number} expects {revision}: {made['spec'].get('schedulingGates')}")
            time.sleep(0.02)

    thread = threading.Thread(target=create)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def presented(plane: ControlPlane, port: int) -> bool:
    """Return whether the webhook presents a certificate that every caBundle trusts."""
    kind = "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations/ledgergate"
    hooks = [hook for each in ("mutating", "validating") for hook in plane.api.get(kind.format(each))["webhooks"]]
    for bundle in {hook["clientConfig"]["caBundle"] for hook in hooks}:
        trust = ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
        try:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
                trust.wrap_socket(raw, server_hostname="127.0.0.1"),
            ):
                pass
        except ssl.SSLCertVerificationError:
            return False
    return True


def test_without_a_controller_the_former_certificate_stays(installation: Installation, plane: ControlPlane) -> None:
    """While nothing makes the API server trust another authority, the webhook presents what it trusts."""
    installation.ensure()
    until("a certificate that is trusted", lambda: presented(plane, installation.webhook_port))
    installation.kill("controller")
    replace(plane)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert presented(plane, installation.webhook_port)
    issued = installation.log("webhook").count("certificate.issued")
    installation.ensure()
    until("another certificate", lambda: installation.log("webhook").count("certificate.issued") > issued)
    assert presented(plane, installation.webhook_port)


@pytest.mark.parametrize(
    "faults",
    [(replace,), (delete, garble, replace, empty, garble, expire)],
    ids=["rotated every two seconds", "deleted, garbled, emptied and replaced"],
)
def test_no_call_fails_whatever_becomes_of_the_secret(
    application: Application,
    installation: Installation,
    plane: ControlPlane,
    database: str,
    tmp_path: Path,
    faults: tuple[Callable[[ControlPlane], None], ...],
) -> None:
    """Each pod is judged at its creation, good or bad; no call of a webhook fails; the keeper leaves a good Secret."""
    installation.ensure()
    migrate(write_migrations(tmp_path / "migrations"), database, "--to", FIRST)
    application.opt_in(database)
    until("the ledger to be read", lambda: application.status().get("head") == FIRST)
    before, seen = failed_calls(plane), list[str]()
    with creating(application, seen):
        end = time.monotonic() + SECONDS
        number = 0
        while time.monotonic() < end:
            fault = faults[number % len(faults)]
            until("a Secret", lambda: plane.api.get(SECRETS, fieldSelector="metadata.name=ledgergate-ca")["items"])
            fault(plane)
            number += 1
            time.sleep(EVERY)
    after = failed_calls(plane)
    assert {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)} == {}
    assert seen == []
    assert application.running("storm") == [] or all(
        pod["metadata"]["annotations"]["ledgergate.dev/revision"] == FIRST
        for pod in application.pods("storm")
        if pod["status"]["phase"] == "Running"
    )
    serials = re.findall(r"certificate.issued kind=serving", installation.log("webhook"))
    assert len(serials) > 1
    assert "Traceback" not in installation.log("controller") + installation.log("webhook")
