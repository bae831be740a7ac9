"""The CA Secret and the webhook configurations, kept in a real API server with the controller's own rights."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from certs.authority_keeper import AuthorityKeeper
from certs.pki import issue_authority
from certs.secret import Unavailable
from testbed.controlplane import ControlPlane
from webhook.certificates import CaSecretStore, WebhookConfigurations
from webhook.kube.client import KubeClient
from webhook.kube.kubeconfig import connect

MANIFESTS = Path(__file__).parents[2] / "manifests"
CONFIGURATIONS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")
PATHS: dict[str, str] = {
    hook["name"]: hook["clientConfig"]["service"]["path"]
    for manifest in yaml.safe_load_all((MANIFESTS / "chart/files/base/admission.yaml").read_text())
    for hook in manifest["webhooks"]
}
NAMES = list(PATHS)
URL = "https://127.0.0.1:9443"
NOW = datetime.now(UTC).replace(microsecond=0)


def authority(name: str) -> bytes:
    """Return a CA certificate; the API server refuses a bundle that is no certificate."""
    return issue_authority(name, not_before=NOW, not_after=NOW + timedelta(hours=1)).certificate


FIRST, SECOND = authority("first"), authority("second")


@pytest.fixture(scope="module")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """A separate control plane, on which no controller writes but the test."""
    with ControlPlane(programs) as started:
        for name in ("namespace", "roles-controller", "roles-webhook", "roles-certificates"):
            started.kubectl("apply", "--server-side", "-f", str(MANIFESTS / "chart/files/base" / f"{name}.yaml"))
        yield started


@pytest.fixture
def configurations(plane: ControlPlane) -> Iterator[None]:
    """Both webhook configurations, as they are applied."""
    manifest = (MANIFESTS / "chart/files/base/admission.yaml").read_text()
    plane.apply(manifest)
    yield
    plane.kubectl("delete", "-f", "-", stdin=manifest)


@pytest.fixture
async def cluster(plane: ControlPlane) -> AsyncIterator[KubeClient]:
    """A connection with the rights of the controller."""
    async with await connect(plane.kubeconfig_for("ledgergate", "controller"), "test") as connected:
        yield connected


@pytest.fixture
def secret(plane: ControlPlane) -> Iterator[Callable[[KubeClient], CaSecretStore]]:
    """A replica's view of the CA Secret, which does not exist yet."""
    yield lambda cluster: CaSecretStore(cluster, "ledgergate", "ledgergate-ca")
    plane.kubectl("delete", "secret", "ledgergate-ca", "-n", "ledgergate", "--ignore-not-found")


def found(plane: ControlPlane) -> list[dict[str, Any]]:
    """Return both configurations."""
    base = "/apis/admissionregistration.k8s.io/v1"
    return [plane.api.get(f"{base}/{kind}s/ledgergate") for kind in CONFIGURATIONS]


def clients(plane: ControlPlane) -> dict[str, dict[str, Any]]:
    """Return the clientConfig of each webhook, by its name."""
    return {hook["name"]: hook["clientConfig"] for each in found(plane) for hook in each["webhooks"]}


def bundles(plane: ControlPlane) -> set[bytes]:
    """Return the different bundles of all webhooks."""
    return {base64.b64decode(client.get("caBundle", "")) for client in clients(plane).values()}


def versions(plane: ControlPlane) -> list[str]:
    """Return the configurations' resource versions, which change with each write."""
    return [each["metadata"]["resourceVersion"] for each in found(plane)]


class Meddler(KubeClient):
    """A connection that lets another client write just before its own next write."""

    meddle: Callable[[], object] | None = None

    async def request(self, method: str, path: str, **given: Any) -> bytes:
        """Run another client's write before the next one, once."""
        if method != "GET" and self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            await asyncio.to_thread(meddle)
        return await super().request(method, path, **given)


async def writes_nothing(cluster: KubeClient, url: str | None = None) -> bool:
    """Return whether publishing the first bundle sends no write at all, not even one that changes nothing."""
    watched = Meddler(cluster.client)
    watched.meddle = list
    await WebhookConfigurations(watched, url).publish(FIRST)
    return watched.meddle is not None


@pytest.mark.usefixtures("configurations")
async def test_the_bundle_is_written_once(plane: ControlPlane, cluster: KubeClient) -> None:
    """Every webhook gets it, the Service stays, and writing the same again writes nothing."""
    before = clients(plane)
    await WebhookConfigurations(cluster).publish(FIRST)
    assert bundles(plane) == {FIRST}
    assert {name: client["service"] for name, client in clients(plane).items()} == {
        name: client["service"] for name, client in before.items()
    }
    assert await writes_nothing(cluster)
    await WebhookConfigurations(cluster).publish(SECOND + FIRST)
    assert bundles(plane) == {SECOND + FIRST}


@pytest.mark.usefixtures("configurations")
async def test_only_the_webhook_that_lacks_it_is_written(plane: ControlPlane, cluster: KubeClient) -> None:
    """A caBundle that was removed is restored."""
    await WebhookConfigurations(cluster).publish(FIRST)
    patch = '[{"op": "remove", "path": "/webhooks/1/clientConfig/caBundle"}]'
    plane.kubectl("patch", CONFIGURATIONS[1], "ledgergate", "--type=json", "-p", patch)
    untouched = versions(plane)[0]
    await WebhookConfigurations(cluster).publish(FIRST)
    assert bundles(plane) == {FIRST}
    assert versions(plane)[0] == untouched


@pytest.mark.usefixtures("configurations")
async def test_a_url_takes_the_services_place(plane: ControlPlane, cluster: KubeClient) -> None:
    """Outside a cluster each webhook is called by URL, at its own path; again it is written once."""
    for url in (URL, f"{URL}/"):
        await WebhookConfigurations(cluster, url).publish(FIRST)
    encoded = base64.b64encode(FIRST).decode()
    assert clients(plane) == {name: {"url": f"{URL}{path}", "caBundle": encoded} for name, path in PATHS.items()}
    assert await writes_nothing(cluster, URL)
    await WebhookConfigurations(cluster, "https://127.0.0.1:9444").publish(FIRST)
    assert {client["url"] for client in clients(plane).values()} == {
        f"https://127.0.0.1:9444{path}" for path in PATHS.values()
    }


@pytest.mark.usefixtures("configurations")
async def test_manifests_applied_again_leave_the_bundle(plane: ControlPlane, cluster: KubeClient) -> None:
    """GitOps tools and the controller do not fight: the manifests do not own what the controller writes."""
    await WebhookConfigurations(cluster).publish(FIRST)
    plane.apply((MANIFESTS / "chart/files/base/admission.yaml").read_text())
    assert bundles(plane) == {FIRST}


@pytest.mark.usefixtures("configurations")
async def test_a_list_that_changes_meanwhile_is_not_hit_in_the_wrong_place(
    plane: ControlPlane, cluster: KubeClient
) -> None:
    """If another webhook becomes the first one between read and write, nothing is written; the next try succeeds."""
    meddler = Meddler(cluster.client)
    other = {
        "name": "other.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/other"},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "namespaceSelector": {"matchLabels": {"never": "matches"}},
    }
    patch = json.dumps([{"op": "add", "path": "/webhooks/0", "value": other}])
    meddler.meddle = lambda: plane.kubectl("patch", CONFIGURATIONS[0], "ledgergate", "--type=json", "-p", patch)
    publisher = WebhookConfigurations(meddler)
    with pytest.raises(Unavailable, match="422"):
        await publisher.publish(FIRST)
    assert clients(plane)["other.example.com"] == other["clientConfig"]
    await publisher.publish(FIRST)
    assert base64.b64decode(clients(plane)["hold.ledgergate.dev"]["caBundle"]) == FIRST


async def test_the_error_for_missing_configurations_has_the_remedy(cluster: KubeClient) -> None:
    """Before the manifests are applied, publishing raises Unavailable, with what to do; the caller tries again."""
    with pytest.raises(Unavailable, match="apply ledgergate's manifests"):
        await WebhookConfigurations(cluster).publish(FIRST)


@pytest.mark.usefixtures("configurations")
async def test_a_missing_right_is_reported(plane: ControlPlane) -> None:
    """The webhook's own account may write neither configuration nor Secret: Unavailable has the status 403."""
    async with await connect(plane.kubeconfig_for("ledgergate", "webhook"), "test") as webhook:
        with pytest.raises(Unavailable, match="403"):
            await WebhookConfigurations(webhook).publish(FIRST)
        with pytest.raises(Unavailable, match="403"):
            await CaSecretStore(webhook, "ledgergate", "ledgergate-ca").create({"tls.crt": b"x"})


Replica = Callable[[KubeClient], CaSecretStore]


async def test_the_secret_comes_back_as_it_was_written(
    plane: ControlPlane, cluster: KubeClient, secret: Replica
) -> None:
    """It keeps any bytes, and has the label of ledgergate."""
    store = secret(cluster)
    data = {"tls.crt": bytes(range(256)), "tls.key": b"", "ca.crt": FIRST}
    assert await store.read() is None
    assert await store.create(data)
    assert await store.read() == data
    assert await store.replace({"ca.crt": SECOND})
    assert await store.read() == {"ca.crt": SECOND}
    kept = json.loads(plane.kubectl("get", "secret", "ledgergate-ca", "-n", "ledgergate", "-o", "json"))
    assert kept["metadata"]["labels"] == {"app.kubernetes.io/name": "ledgergate"}


async def test_what_others_wrote_on_the_secret_stays(plane: ControlPlane, cluster: KubeClient, secret: Replica) -> None:
    """A label of a backup tool, an annotation of a GitOps tool: a rotation replaces the keys alone."""
    store = secret(cluster)
    assert await store.create({"ca.crt": FIRST})
    for kind, word in (("label", "backup=yes"), ("annotate", "tool.example/sync=no")):
        plane.kubectl(kind, "secret", "ledgergate-ca", "-n", "ledgergate", word)
    await store.read()
    assert await store.replace({"ca.crt": SECOND})
    kept = json.loads(plane.kubectl("get", "secret", "ledgergate-ca", "-n", "ledgergate", "-o", "json"))["metadata"]
    assert kept["labels"] == {"app.kubernetes.io/name": "ledgergate", "backup": "yes"}
    assert kept["annotations"]["tool.example/sync"] == "no"


async def test_of_two_creators_one_is_first(cluster: KubeClient, secret: Replica) -> None:
    """One creation succeeds, and the other returns False."""
    words = [b"one", b"two"]
    won = await asyncio.gather(*(secret(cluster).create({"ca.crt": word}) for word in words))
    assert sorted(won) == [False, True]
    assert await secret(cluster).read() == {"ca.crt": words[won.index(True)]}


async def test_of_two_writers_the_second_reads_again(cluster: KubeClient, secret: Replica) -> None:
    """A Secret that has changed since it was read is not overwritten."""
    one, other = secret(cluster), secret(cluster)
    assert await one.create({"ca.crt": b"0"})
    await one.read()
    await other.read()
    assert await one.replace({"ca.crt": b"1"})
    assert not await other.replace({"ca.crt": b"2"})
    assert await other.read() == {"ca.crt": b"1"}
    assert await other.replace({"ca.crt": b"2"})


async def test_a_secret_that_is_gone_is_not_replaced(plane: ControlPlane, cluster: KubeClient, secret: Replica) -> None:
    """If the Secret was deleted since it was read, the write returns False and raises nothing."""
    store = secret(cluster)
    assert await store.create({"ca.crt": b"0"})
    await store.read()
    plane.kubectl("delete", "secret", "ledgergate-ca", "-n", "ledgergate")
    assert not await store.replace({"ca.crt": b"1"})
    assert await store.read() is None


@pytest.mark.usefixtures("configurations")
async def test_two_controllers_end_with_one_authority(
    plane: ControlPlane, cluster: KubeClient, secret: Replica
) -> None:
    """Started at once on an empty cluster, both come to trust, and to publish, what the Secret holds."""
    keepers = [
        AuthorityKeeper(secret(cluster), WebhookConfigurations(cluster), clock=lambda: datetime.now(UTC))
        for _ in range(2)
    ]
    await asyncio.gather(*(keeper.ensure(datetime.now(UTC)) for keeper in keepers))
    settled = [await keeper.ensure(datetime.now(UTC)) for keeper in keepers]
    held = await secret(cluster).read()
    assert held is not None
    assert settled == [held["ca.crt"]] * 2
    assert bundles(plane) == {held["ca.crt"]}
    documents = yaml.safe_load_all((MANIFESTS / "chart/files/base/admission.yaml").read_text())
    assert sorted(clients(plane)) == sorted(hook["name"] for each in documents for hook in each["webhooks"])
