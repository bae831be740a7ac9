"""The CA Secret is rotated, deleted, garbled and replaced while pods are created through the real API server."""

import base64
import logging
import random
import re
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs.pki import issue_authority
from testbed.cluster import pod_storm
from testbed.cluster.application import FIRST, Application, migrate, write_migrations
from testbed.cluster.control_webhook import control_webhook
from testbed.cluster.installation import Installation
from testbed.cluster.pod_storm import FailedCalls, PodStorm
from testbed.controlplane import ControlPlane
from testbed.waiting import until

log = logging.getLogger(__name__)
pytestmark = pytest.mark.timeout(900 + 5 * pod_storm.SECONDS)

SECRETS = "/api/v1/namespaces/ledgergate/secrets"
SECRET = f"{SECRETS}/ledgergate-ca"
SECONDS = max(12.0, pod_storm.SECONDS)
"""Seconds that each test lasts."""
EVERY = 2.0
"""Seconds between two faults."""
RANDOM = random.Random(16)  # noqa: S311 - so that each run is the same


def replace(plane: ControlPlane) -> None:
    """Put an authority in the Secret that no webhook configuration trusts."""
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
    # The keeper may not have mended the fault before yet, on a machine that is busy.
    data = until("a Secret with keys", lambda: plane.api.get(SECRET).get("data"))
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
    with control_webhook(plane, application.namespace, balanced=False) as control:
        failed, storm = FailedCalls(plane, control), PodStorm(application)
        with storm.running():
            end = time.monotonic() + SECONDS
            number = 0
            while time.monotonic() < end:
                fault = faults[number % len(faults)]
                until("a Secret", lambda: plane.api.get(SECRETS, fieldSelector="metadata.name=ledgergate-ca")["items"])
                fault(plane)
                number += 1
                time.sleep(EVERY)  # paces the faults; nothing is waited for
        failures = failed.causes(storm)
    log.warning("%d pods, %.0f/s, %d faults", storm.made, storm.rate, number)
    assert failures == []
    assert storm.wrong == []
    assert all(
        pod["metadata"]["annotations"]["ledgergate.dev/revision"] == FIRST
        for pod in application.pods("storm")
        if pod["status"]["phase"] == "Running"
    )
    serials = re.findall(r"certificate.issued kind=serving", installation.log("webhook"))
    assert len(serials) > 1
    assert "Traceback" not in installation.log("controller") + installation.log("webhook")
