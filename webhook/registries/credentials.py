"""Credentials of registries, from Docker's ``config.json`` and from pull secrets, which have the same form. Pure.

Sources: https://docs.docker.com/reference/cli/docker/login/, and for the matching of keys
https://kubernetes.io/docs/concepts/containers/images/#config-json.

ValueError
└── CredentialsError   a text that is no ``config.json``
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from webhook.registries.reference import DOCKER_HUB

_MAX_TEXT = 1024 * 1024  # the most that a Secret can have
_MAX_ENTRIES = 1000


class CredentialsError(ValueError):
    """A text that is no ``config.json``; the message never has any of it."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a registry accepts as a login.

    Args:
        username: user name; empty with a token.
        password: password, or the identity token, or the registry token.
        kind: ``password``, ``identity`` (an OAuth2 refresh token, of Azure and Docker Desktop) or ``bearer``.
    """

    username: str
    password: str = field(repr=False)
    kind: str = "password"

    def basic(self) -> str:
        """Return the value of the header ``Authorization`` for Basic authentication (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Keyring:
    """The credentials of some registries.

    Args:
        entries: pattern of HOST[:PORT][/PATH] and credential, in the order of their sources.
        helpers: pattern of HOST[:PORT] to name of the credential helper that has the login, which is not run here.
    """

    entries: tuple[tuple[str, Credential], ...] = ()
    helpers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | bytes) -> "Keyring":
        """Read a ``config.json``, or the value of ``.dockerconfigjson`` in a pull secret.

        Raises:
            CredentialsError: it has another form.
        """
        try:
            document = _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CredentialsError("expected JSON in the form of Docker's config.json, got something else") from error
        if len(document.auths) > _MAX_ENTRIES:
            raise CredentialsError(f"expected at most {_MAX_ENTRIES} entries in config.json, got {len(document.auths)}")
        entries = [(_pattern(key), found) for key, auth in document.auths.items() if (found := _credential(auth))]
        helpers = {_pattern(key): helper for key, helper in document.cred_helpers.items() if helper}
        if document.creds_store:
            stored = {
                _pattern(key): document.creds_store for key, auth in document.auths.items() if not _credential(auth)
            }
            helpers = {"*": document.creds_store, **stored, **helpers}
        return cls(tuple(entries), helpers)

    @classmethod
    def merged(cls, keyrings: Iterable["Keyring"]) -> "Keyring":
        """Put several together; earlier ones come first."""
        rings = tuple(keyrings)
        helpers = {key: helper for ring in reversed(rings) for key, helper in ring.helpers.items()}
        return cls(tuple(entry for ring in rings for entry in ring.entries), helpers)

    def find(self, authority: str, repository: str = "") -> tuple[Credential, ...]:
        """Return the credentials for a repository: the most specific path first, each once, as the kubelet tries them.

        Args:
            authority: HOST[:PORT] of the registry.
            repository: name of the repository.
        """
        names = {authority, DOCKER_HUB} if authority in _HUB else {authority}
        matching = [
            (pattern, credential)
            for pattern, credential in self.entries
            if any(_applies(pattern, name, repository) for name in names)
        ]
        matching.sort(key=lambda entry: -entry[0].count("/"))
        return tuple(dict.fromkeys(credential for _, credential in matching))

    def helper(self, authority: str) -> str | None:
        """Return the name of the credential helper that has a registry's login; None where there is none."""
        names = (authority, DOCKER_HUB) if authority in _HUB else (authority,)
        for pattern, helper in sorted(self.helpers.items(), key=lambda entry: entry[0] == "*"):
            if any(_applies(pattern, name, "") for name in names):
                return helper
        return None


NO_CREDENTIALS = Keyring()
_HUB = frozenset({DOCKER_HUB, "registry-1.docker.io", "index.docker.io"})


class _Auth(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _DockerConfig(msgspec.Struct, frozen=True, rename="camel"):
    auths: dict[str, _Auth] = {}
    cred_helpers: dict[str, str] = {}
    creds_store: str = ""


def _decode(text: str | bytes) -> _DockerConfig:
    if len(text) > _MAX_TEXT:
        raise CredentialsError(f"expected a config.json of at most {_MAX_TEXT} bytes, got {len(text)}")
    document: Any = msgspec.json.decode(text)
    if isinstance(document, dict) and not document.keys() & {"auths", "credHelpers", "credsStore"}:
        document = {"auths": document}  # the older form, `.dockercfg`, has the entries alone
    return msgspec.convert(document, _DockerConfig)


def _credential(auth: _Auth) -> Credential | None:
    if auth.registrytoken:
        return Credential("", auth.registrytoken, "bearer")
    username, password = auth.username, auth.password
    if auth.auth and not (username and password):
        try:
            decoded = base64.b64decode(auth.auth.encode(), validate=False).decode()
        except (binascii.Error, UnicodeError):
            return None
        username, _, password = decoded.partition(":")
        password = password.rstrip("\0")
    if auth.identitytoken:
        return Credential(username, auth.identitytoken, "identity")
    return Credential(username, password) if username else None


def _pattern(key: str) -> str:
    """Return a key of `auths` without scheme, version and case of the host: ``https://index.docker.io/v1/``."""
    host, _, path = key.partition("://")[2 if "://" in key else 0].partition("/")
    path = path.strip("/")
    host = host.lower()
    if host in _HUB:
        host = DOCKER_HUB
    return f"{host}/{path}" if path and path not in {"v1", "v2"} else host


def _applies(pattern: str, authority: str, repository: str) -> bool:
    host, _, path = pattern.partition("/")
    if path and f"{repository}/".find(f"{path}/") != 0:
        return False
    if host == "*":
        return True  # `credsStore`
    # A `*` stands for a part of one label, so `*.example.com` is not a.b.example.com; ports must be equal.
    (name, _, port), (other, _, other_port) = host.partition(":"), authority.partition(":")
    labels, others = name.split("."), other.split(".")
    return (
        port == other_port
        and len(labels) == len(others)
        and all(fnmatchcase(label, pattern_label) for pattern_label, label in zip(labels, others, strict=True))
    )
