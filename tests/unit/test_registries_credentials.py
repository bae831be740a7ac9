"""Which credentials of a config.json are for which registry."""

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.registries.credentials import Credential, CredentialsError, Keyring


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def users(keyring: Keyring, authority: str, repository: str = "x") -> list[str]:
    return [credential.username for credential in keyring.find(authority, repository)]


def test_each_registry_has_its_own_credential() -> None:
    """Credentials are found by host and port, Docker Hub's by each of its names, and never another registry's."""
    keyring = Keyring.parse(
        json.dumps(
            {
                "auths": {
                    "https://index.docker.io/v1/": auth("hub", "a"),
                    "ghcr.io": auth("github", "b:c"),
                    "localhost:5000": auth("local", "d"),
                }
            }
        )
    )
    assert users(keyring, "registry-1.docker.io") == users(keyring, "docker.io") == ["hub"]
    assert keyring.find("ghcr.io") == (Credential("github", "b:c"),)
    assert users(keyring, "localhost:5000") == ["local"]
    for other in ("localhost", "localhost:5001", "evil.ghcr.io", "ghcr.io.evil.invalid", "gcr.io"):
        assert users(keyring, other) == []


def test_paths_and_wildcards_as_the_kubelet_has_them() -> None:
    """The longest path first; a `*` stands for a part of one label."""
    keyring = Keyring.parse(
        json.dumps(
            {
                "auths": {
                    "registry.example": auth("all", "a"),
                    "registry.example/shop": auth("shop", "a"),
                    "*.dkr.example": auth("wild", "a"),
                }
            }
        )
    )
    assert users(keyring, "registry.example", "shop/gateway") == ["shop", "all"]
    assert users(keyring, "registry.example", "shopping/x") == ["all"]
    assert users(keyring, "a.dkr.example") == ["wild"]
    assert users(keyring, "a.b.dkr.example") == users(keyring, "dkr.example") == []


def test_the_kinds_of_credentials() -> None:
    """A password, an identity token and a registry token; an entry without any is none."""
    keyring = Keyring.parse(
        json.dumps(
            {
                "auths": {
                    "a.example": {"username": "u", "password": "p"},
                    "b.example": {"identitytoken": "i", **auth("<token>", "")},
                    "c.example": {"registrytoken": "r"},
                    "d.example": {},
                    "e.example": {"auth": "!"},
                }
            }
        )
    )
    found = {name: keyring.find(f"{name}.example") for name in "abcde"}
    assert found["a"] == (Credential("u", "p"),)
    assert found["b"] == (Credential("<token>", "i", "identity"),)
    assert found["c"] == (Credential("", "r", "bearer"),)
    assert found["d"] == found["e"] == ()
    assert "p" not in repr(found["a"][0]).removeprefix("Credential(username='u', ").partition("kind")[0]


def test_helpers_are_named() -> None:
    """By registry, or one for all; a helper is never run."""
    keyring = Keyring.parse(json.dumps({"credHelpers": {"a.example": "ecr-login"}, "credsStore": "desktop"}))
    assert keyring.helper("a.example") == "ecr-login"
    assert keyring.helper("ghcr.io") == "desktop"
    assert Keyring().helper("ghcr.io") is None


def test_the_older_form_has_the_entries_alone() -> None:
    """`.dockercfg`, which pull secrets of type kubernetes.io/dockercfg hold."""
    assert users(Keyring.parse(json.dumps({"a.example": auth("u", "p")})), "a.example") == ["u"]
    assert Keyring.parse("{}") == Keyring()


@pytest.mark.parametrize(
    "text", ["", "[", "[]", '{"auths": []}', '{"auths": {"a": {"auth": 7}}}', "[" * 100_000, b"\xff"]
)
def test_what_is_no_config_is_refused(text: str | bytes) -> None:
    """The message shows nothing of the text."""
    with pytest.raises(CredentialsError, match=r"expected JSON in the form of Docker's config.json"):
        Keyring.parse(text)


@given(
    st.dictionaries(
        st.text(max_size=20),
        st.fixed_dictionaries({}, optional={"auth": st.text(max_size=20), "username": st.text(max_size=5)}),
        max_size=3,
    )
)
def test_any_entries_are_read(auths: dict[str, dict[str, str]]) -> None:
    """Without any other exception, whatever the keys and values are."""
    with suppress(CredentialsError):
        keyring = Keyring.parse(json.dumps({"auths": auths}))
        for credential in keyring.find("ghcr.io", "a/b"):
            credential.basic()
