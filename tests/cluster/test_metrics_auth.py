"""Metrics for tokens that may read them, decided by a real API server under the rights that docs/hardening.md gives."""

import re
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from testbed.controlplane import ControlPlane
from testbed.ports import free_ports
from webhook.admission.server import Site, probes, serving
from webhook.app import metrics_refusal
from webhook.kube.kubeconfig import connect
from webhook.settings import ControllerSettings, Endpoint
from webhook.telemetry import Telemetry

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rights(plane: ControlPlane) -> Iterator[None]:
    """Ledgergate's roles, and those of the page."""
    for name in ("namespace", "roles-controller", "roles-webhook", "roles-certificates"):
        plane.kubectl("apply", "--server-side", "-f", str(ROOT / "manifests/chart/files/base" / f"{name}.yaml"))
    for command in (
        ("create", "namespace", "monitoring"),
        ("create", "serviceaccount", "prometheus", "-n", "monitoring"),
        ("create", "serviceaccount", "other", "-n", "monitoring"),
    ):
        plane.kubectl(*command)
    page = (ROOT / "docs/hardening.md").read_text()
    (manifest,) = re.findall(r"```yaml\n# metrics-auth\n(.*?)```", page, re.DOTALL)
    plane.apply(manifest)
    yield
    plane.kubectl("delete", "-f", "-", stdin=manifest)
    plane.kubectl("delete", "namespace", "monitoring", "--wait=false")


def token(plane: ControlPlane, account: str) -> str:
    """Return a token of an account in the namespace `monitoring`."""
    return plane.kubectl("create", "token", account, "-n", "monitoring").strip()


@pytest.mark.usefixtures("rights")
@pytest.mark.parametrize("account", ["controller", "webhook"])
async def test_metrics_are_for_those_who_may_read_them(plane: ControlPlane, account: str) -> None:
    """Prometheus' account gets them; another account and a client without token do not; probes answer every client."""
    kubeconfig = plane.kubeconfig_for("ledgergate", account)
    settings = ControllerSettings("test", Endpoint("127.0.0.1", 0), kubeconfig=kubeconfig, metrics_auth=True)
    good, other = token(plane, "prometheus"), token(plane, "other")
    (port,) = free_ports(1)
    async with await connect(kubeconfig, "test") as cluster:
        handler = probes(lambda: True, lambda: "", Telemetry(), metrics_refusal(settings, cluster))
        async with serving(Site(handler, Endpoint("127.0.0.1", port))), aiohttp.ClientSession() as session:

            async def status(path: str, given: str | None = None) -> int:
                headers = {} if given is None else {"Authorization": given}
                async with session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as response:
                    return response.status

            for _ in range(2):  # asked, then remembered
                assert await status("/metrics", f"Bearer {good}") == 200
                assert await status("/metrics", f"bearer  {good} ") == 200
                assert await status("/metrics", f"Bearer {other}") == 403
            for given in (None, "", "Bearer", "Bearer x", f"Basic {good}", good, f"Bearer {good[:-4]}", "Bearer é"):
                assert await status("/metrics", given) == 401, given
            assert [await status(path) for path in ("/livez", "/readyz")] == [200, 200]


async def test_without_the_right_to_ask_no_metrics_are_served(plane: ControlPlane, tmp_path: Path) -> None:
    """If the API server refuses to review tokens, or cannot be reached, the answer is 503, never the metrics."""
    kubeconfig = plane.kubeconfig_for("default", "default")
    gone = tmp_path / "gone"
    gone.write_text(kubeconfig.read_text().replace(str(plane.api_port), "1"))
    for file in (kubeconfig, gone):
        settings = ControllerSettings("test", Endpoint("127.0.0.1", 0), kubeconfig=file, metrics_auth=True)
        async with await connect(file, "test") as cluster:
            refusal = metrics_refusal(settings, cluster)
            assert refusal is not None
            assert await refusal("x") == 503
            assert metrics_refusal(ControllerSettings("test", Endpoint("127.0.0.1", 0)), cluster) is None
