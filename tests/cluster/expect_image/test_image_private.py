"""Private images: by the pod's pull secret, by its service account's, by a config.json that the controller has."""

import asyncio
import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.application import FIRST, Application
from testbed.cluster.installation import Installation
from testbed.registries.images import REVISION, Pusher, RegistryImage
from testbed.registries.server import PASSWORD, USER, Registry
from testbed.waiting import until
from tests.cluster.events import events
from tests.registries.conftest import authority, ca_file, private, trust

__all__ = ["authority", "ca_file", "private", "trust"]

LOGIN = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
PULL_SECRET = "registry-login"


@pytest.fixture(scope="module")
def registry(private: Registry) -> Registry:
    """A registry with TLS and a password."""
    return private


@pytest.fixture(scope="module")
def flags(ca_file: Path) -> tuple[str, ...]:
    """The controller's flags, with which it may ask the registry."""
    networks = ("--registry-allow-network", "127.0.0.0/8", "--registry-allow-network", "::1/128")
    return "--registry-ca-file", str(ca_file), *networks


@pytest.fixture
def image(registry: Registry, trust: ssl.SSLContext, namespace: str) -> str:
    """An image that can only be read with the password."""
    pusher = Pusher(registry.url, namespace, trust=trust, authorization=f"Basic {LOGIN}")
    asyncio.run(pusher.image(RegistryImage({REVISION: FIRST}), "1"))
    return f"{registry.authority}/{namespace}:1"


@pytest.fixture
def mounted(
    installed_with_registry: Installation, flags: tuple[str, ...], registry: Registry, tmp_path: Path
) -> Iterator[None]:
    """A controller with a config.json."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {registry.authority: {"auth": LOGIN}}}))
    installed_with_registry.kill("controller")
    installed_with_registry.controller_flags = (*flags, "--registry-config", str(path))
    installed_with_registry.start_controller()
    yield
    installed_with_registry.kill("controller")
    installed_with_registry.controller_flags = flags
    installed_with_registry.start_controller()


def write_pull_secret(application: Application, registry: Registry, password: str = PASSWORD) -> None:
    application.plane.kubectl("delete", "secret", PULL_SECRET, "-n", application.namespace, "--ignore-not-found")
    command = ("create", "secret", "docker-registry", PULL_SECRET, "-n", application.namespace)
    login = (f"--docker-server={registry.authority}", f"--docker-username={USER}", f"--docker-password={password}")
    application.plane.kubectl(*command, *login)


def grant(application: Application, command: str) -> None:
    """Run the command that a message shows, and bind its Role as the message says."""
    application.plane.kubectl(*command.removeprefix("kubectl ").split())
    binding = ("create", "rolebinding", "ledgergate-images", "-n", application.namespace)
    subject = ("--role=ledgergate-images", "--serviceaccount=ledgergate:controller")
    application.plane.kubectl(*binding, *subject)


def reason(application: Application, text: str) -> str:
    """Wait for an Event that says why a pod is held, and return it."""
    found: list[str] = until(
        f"an Event with {text!r}", lambda: [e["note"] for e in events(application, "Held", "Pod") if text in e["note"]]
    )
    assert PASSWORD not in found[0]
    return found[0]


def test_a_pull_secret_opens_its_image_once_it_may_be_read(shop: Application, registry: Registry, image: str) -> None:
    """The message has the command that grants the right; after it, the image is read and the pod starts."""
    write_pull_secret(shop, registry)
    shop.deploy("gateway", None, image=image, replicas=1, imagePullSecrets=[{"name": PULL_SECRET}])
    shop.await_held("gateway", 1)
    message = reason(shop, f"pull secret {PULL_SECRET} may not be read")
    grant(shop, message.split("`")[1])
    shop.await_running("gateway", 1)


def test_the_pull_secret_of_the_service_account_counts(shop: Application, registry: Registry, image: str) -> None:
    """The API server writes a service account's pull secrets into its pods: nothing more has to be granted."""
    write_pull_secret(shop, registry)
    role = f"create role ledgergate-images -n {shop.namespace} --verb=get --resource=secrets"
    grant(shop, f"{role} --resource-name={PULL_SECRET}")
    account = ("serviceaccount", "default", "-n", shop.namespace)
    until("the service account", lambda: shop.plane.kubectl("get", *account, "--ignore-not-found"))
    shop.plane.kubectl("patch", *account, "-p", json.dumps({"imagePullSecrets": [{"name": PULL_SECRET}]}))
    shop.deploy("gateway", None, image=image, replicas=1)
    shop.await_running("gateway", 1)


def test_wrong_and_missing_logins_are_reported(shop: Application, registry: Registry, image: str) -> None:
    """Without a login, and with a wrong one, the pod stays held, and the two reasons differ.

    Once one pod's login has opened the image, the gate knows it for all its pods.
    """
    shop.deploy("without", None, image=image, replicas=1)
    assert "a login" in reason(shop, "cannot be read")
    write_pull_secret(shop, registry, "wrong")
    role = f"create role ledgergate-images -n {shop.namespace} --verb=get --resource=secrets"
    grant(shop, f"{role} --resource-name={PULL_SECRET}")
    shop.deploy("wrong", None, image=image, replicas=1, imagePullSecrets=[{"name": PULL_SECRET}])
    notes = until(
        "both reasons",
        lambda: (
            len(found := {e["note"] for e in events(shop, "Held", "Pod") if "cannot be read" in e["note"]}) > 1
            and found
        ),
    )
    assert notes
    write_pull_secret(shop, registry)
    shop.await_running("wrong", 1)
    shop.await_running("without", 1)


@pytest.mark.usefixtures("mounted")
def test_a_mounted_config_counts_for_every_namespace(shop: Application, image: str) -> None:
    """With a config.json of the controller no pod needs a pull secret that ledgergate may read."""
    shop.deploy("gateway", None, image=image, replicas=1)
    shop.await_running("gateway", 1)
