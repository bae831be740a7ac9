"""The cluster's Services are no registries, although nothing was configured."""

import json
from ipaddress import ip_address
from pathlib import Path

from testbed.cluster.application import Application
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.waiting import until
from tests.cluster.events import events
from webhook.kube.kubeconfig import connect

NETWORK = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "ServiceCIDR",
    "metadata": {"name": "more-services"},
    "spec": {"cidrs": ["10.77.0.0/24"]},
}


def test_an_image_that_names_a_service_is_not_asked_for(shop: Application, tmp_path: Path) -> None:
    """The controller learns a network of Services from the API server: a pod with an image there is held, with why."""
    manifest = tmp_path / "network.json"
    manifest.write_text(json.dumps(NETWORK), encoding="utf-8")
    shop.plane.kubectl("apply", "-f", str(manifest))
    try:
        shop.deploy("gateway", None, image="10.77.0.5:5000/shop/gateway:1", replicas=1)
        shop.await_held("gateway", 1)
        until(
            "the reason",
            lambda: [each for each in events(shop, "Held", "Pod") if "a Service of this cluster" in each["note"]],
            timeout=120,
        )
    finally:
        shop.plane.kubectl("delete", "-f", str(manifest), "--wait=false")


async def test_the_api_server_says_where_it_wants_to_be_reached(plane: ControlPlane, installed: Installation) -> None:
    """The controller needs no right to read these addresses, at which it asks no registry."""
    del installed
    async with await connect(plane.kubeconfig_for("ledgergate", "controller"), "test") as cluster:
        hosts = await cluster.advertised_hosts()
    assert [str(ip_address(host)) for host in hosts] == list(hosts) != []
