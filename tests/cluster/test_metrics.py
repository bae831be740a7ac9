"""The metrics that a controller exports only while it leads, and what a new leader takes over."""

import json
from datetime import UTC, datetime

import pytest

from testbed.cluster.application import Application
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.waiting import until

LEASE = ("lease", "ledgergate-controller", "-n", "ledgergate")
AUTHORITY = 'ledgergate_certificate_expiry_timestamp_seconds{kind="authority"}'


def says(installation: Installation, series: str) -> str:
    """Return the first line of the controller's metrics with a prefix; empty if there is none."""
    lines = installation.metrics("controller").splitlines()
    return next((line for line in lines if line.startswith(series)), "")


@pytest.fixture
def gate_state(application: Application, database: str) -> str:
    """A gate's series, which only the leader exports."""
    application.opt_in(database)
    return f'ledgergate_gate_state{{gate="app",namespace="{application.namespace}"'


def test_a_new_leader_exports_the_expiry_of_an_authority_that_another_one_issued(installation: Installation) -> None:
    """The alert on its expiry needs the date as long as the authority is in use, not as long as its issuer runs."""
    before = until("an authority", lambda: says(installation, AUTHORITY))
    installation.kill("controller")
    installation.ensure()
    assert until("the new leader's metric", lambda: says(installation, AUTHORITY)) == before


def test_a_controller_that_has_lost_the_lease_exports_nothing_of_gates(
    installation: Installation, plane: ControlPlane, gate_state: str
) -> None:
    """What a former leader knows grows old: it must neither hide the new leader's metrics nor raise an alarm."""
    until("a gate's state", lambda: says(installation, gate_state))
    lease = {"holderIdentity": "usurper", "renewTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"}
    plane.kubectl("patch", *LEASE, "--type=merge", "-p", json.dumps({"spec": lease}))
    until("another leader", lambda: says(installation, "ledgergate_leader 0.0"))
    until("silence", lambda: not says(installation, "ledgergate_gate_state{") and not says(installation, AUTHORITY))
    until("the next term", lambda: says(installation, gate_state) and says(installation, AUTHORITY))
