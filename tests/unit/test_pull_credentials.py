"""The logins for a pod's images: its pull secrets', and those of the config.json that is mounted for the controller."""

import base64
import json
from pathlib import Path

import pytest

from tests.object_feeds import Objects
from webhook.api.objects import Metadata, Secret
from webhook.controller.pull_credentials import PullCredentials, PullCredentialsReader
from webhook.kube.errors import Forbidden, Unavailable

REGISTRY = "registry.example"


def config(user: str) -> str:
    """Return a config.json with one login."""
    return json.dumps({"auths": {REGISTRY: {"auth": base64.b64encode(f"{user}:hidden".encode()).decode()}}})


def pull_secrets(**contents: str) -> Objects:
    """Return the Secrets of the namespace `shop`, each a pull secret with this text."""
    objects = Objects()
    for name, text in contents.items():
        found = Secret(metadata=Metadata(namespace="shop", name=name), data={".dockerconfigjson": text.encode()})
        objects.secrets["shop", name] = found
    return objects


def users(found: PullCredentials) -> list[str]:
    return [login.username for login in found.keyring.find(REGISTRY)]


async def test_a_mounted_config_counts_after_the_pods_own_secrets(tmp_path: Path) -> None:
    """It is for pods of every namespace, those without a pull secret too; without one mounted there is no login."""
    mounted = tmp_path / "config.json"
    mounted.write_text(config("everyone"))
    reader = PullCredentialsReader(pull_secrets(own=config("shop")), mounted)
    assert users(await reader.read("shop", ["own"])) == ["shop", "everyone"]
    assert users(await reader.read("elsewhere", [])) == ["everyone"]
    assert await PullCredentialsReader(pull_secrets()).read("shop", []) == PullCredentials()


async def test_a_mounted_config_is_read_each_time(tmp_path: Path) -> None:
    """A kubelet replaces the file of a Secret that has changed, a token of hours for example: no restart is needed."""
    mounted = tmp_path / "config.json"
    reader = PullCredentialsReader(pull_secrets(), mounted)
    for user in ("before", "after"):
        mounted.write_text(config(user))
        assert users(await reader.read("shop", [])) == [user]


@pytest.mark.parametrize("text", [None, "no json", "[" * 100_000, '{"auths": 3}'])
async def test_a_mounted_config_that_cannot_be_read_takes_no_login_away(
    text: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log reports it to the administrator; a pod's message, which its namespace can read, does not."""
    mounted = tmp_path / "config.json"
    if text is not None:
        mounted.write_text(text)
    with caplog.at_level("INFO", "ledgergate"):
        found = await PullCredentialsReader(pull_secrets(own=config("shop")), mounted).read("shop", ["own"])
    assert (users(found), found.problem) == (["shop"], "")
    assert [record.message for record in caplog.records] == ["registry_config.unreadable"]


async def test_each_pull_secret_that_cannot_be_used_is_reported() -> None:
    """With what to do where that is known; the others still count, and no message has any of a Secret's content."""
    objects = pull_secrets(own=config("shop"), garbled="hidden")
    objects.secrets["shop", "other"] = Secret(metadata=Metadata(namespace="shop", name="other"), data={"x": b"hidden"})
    found = await PullCredentialsReader(objects).read("shop", ["missing", "garbled", "other", "own"])
    assert users(found) == ["shop"]
    missing, garbled, other = found.problem.split("; ")
    assert missing == "pull secret missing does not exist"
    assert garbled.startswith("pull secret garbled: expected JSON in the form of Docker's config.json")
    assert other.startswith("pull secret other: expected the key .dockerconfigjson")
    assert "hidden" not in found.problem
    for refusal, message in (
        (Forbidden("403"), "kubectl create role ledgergate-images -n shop"),
        (Unavailable("x"), "now"),
    ):
        objects.refusal = refusal
        found = await PullCredentialsReader(objects).read("shop", ["own"])
        assert users(found) == []
        assert message in found.problem
