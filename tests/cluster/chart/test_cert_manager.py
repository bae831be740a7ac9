"""The chart with cert-manager, whose part the test plays."""

import base64
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.application import THIRD, Application, migrate
from testbed.cluster.guard import CONFIGURATIONS, SMALL, Guard
from testbed.controlplane import ControlPlane
from testbed.controlplane.certificates import Authority
from testbed.waiting import until
from tests.cluster.custom_resources import MissingError, definitions

AUTHORITY = "ledgergate-ca"


@pytest.fixture
def cert_manager(plane: ControlPlane) -> Iterator[None]:
    """The kinds of cert-manager, on the plane."""
    try:
        files = [file for file in definitions() if "cert-manager" in file.name]
    except MissingError as reason:
        pytest.skip(str(reason))
    flags = [flag for file in files for flag in ("-f", str(file))]
    plane.kubectl("apply", "--server-side", *flags)
    plane.kubectl("wait", "--for=condition=Established", *flags, "--timeout=20s")
    yield
    plane.kubectl("delete", *flags)


@pytest.mark.usefixtures("cert_manager")
def test_cert_manager_provides_the_certificate(
    guarding: Guard, namespace: str, database: str, migrations: Path
) -> None:
    """The webhook serves the Certificate's Secret, and the controller leaves certificates and caBundle to cert-manager.

    The test does cert-manager's work: it issues what the Certificate asks for, and injects where the annotation says.
    """
    guard, plane = guarding, guarding.plane
    guard.uninstall("--ignore-not-found")
    plane.kubectl("delete", "secret", AUTHORITY, "-n", guard.namespace, "--ignore-not-found")
    guard.install(*SMALL, "--set", "certificates.manager=cert-manager")
    authority = Authority(dt.datetime.now(dt.UTC))
    certificate = guard.get("certificates.cert-manager.io/ledgergate-webhook")["spec"]
    pair = authority.server(certificate["dnsNames"], [])
    secret = {"tls.crt": pair.certificate.decode(), "tls.key": pair.key.decode()}
    name = {"name": certificate["secretName"], "namespace": guard.namespace}
    plane.apply(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": name, "stringData": secret}))
    bundle = base64.b64encode(authority.pem).decode()
    for configuration in CONFIGURATIONS:
        found = guard.get(configuration)
        source = found["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
        assert source == f"{guard.namespace}/ledgergate-webhook"
        steps = [
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
            for index in range(len(found["webhooks"]))
        ]
        plane.kubectl("patch", configuration, "--type=json", "-p", json.dumps(steps))
    guard.serve()
    guard.grant(namespace)
    application = Application(plane, namespace)
    application.secret(database)
    application.gate()
    plane.kubectl("label", "namespace", namespace, "ledgergate.dev/admission=enabled")
    until("the gate's first status", lambda: application.status().get("state"))
    application.deploy("early", THIRD)
    held = application.await_held("early")
    assert "denied the request" in application.try_to_ungate(held[0])
    migrate(migrations, database)
    application.await_running("early")
    assert set(guard.bundles()) == {bundle}
    assert AUTHORITY not in plane.kubectl("get", "secrets", "-n", guard.namespace, "-o", "name")
    guard.uninstall()
