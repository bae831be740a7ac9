"""The header ``Authorization`` that a registry asks for: Basic, or a token of its token server.

Source: https://distribution.github.io/distribution/spec/auth/token/ and .../oauth/
"""

import re

import msgspec
from yarl import URL

from webhook.registries.challenge import Challenge, host_of, may_see_credentials, parse_challenges
from webhook.registries.credentials import Credential
from webhook.registries.result import RegistryFailure, UnresolvedReason
from webhook.registries.settings import RegistrySettings
from webhook.registries.transport import RegistryAnswer, RegistryTransport
from webhook.registries.urls import parse_url

_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")
_UNUSABLE = (400, 401, 403, 404)  # what token servers answer to a login that they do not accept


class _Token(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""


async def authorize(
    transport: RegistryTransport,
    settings: RegistrySettings,
    *,
    authority: str,
    repository: str,
    credential: Credential | None,
    refused: RegistryAnswer,
) -> str:
    """Return the value of ``Authorization`` with which a registry may be asked again.

    Args:
        transport: makes the request to a token server.
        settings: which token servers may see credentials.
        authority: HOST[:PORT] of the registry.
        repository: name of the repository that is read.
        credential: the login; None for an anonymous token.
        refused: the registry's 401.

    Raises:
        RegistryFailure: there is no way to authenticate, or the login is not accepted.
    """
    challenges = parse_challenges(refused.challenges)
    if credential and credential.kind == "bearer":
        return f"Bearer {_printable(credential.password, authority)}"
    for challenge in challenges:
        if challenge.scheme == "bearer":
            return await _token(transport, settings, authority, repository, credential, challenge)
    if any(challenge.scheme == "basic" for challenge in challenges):
        if credential is None:
            raise unauthorized(authority, repository)
        return credential.basic()
    raise RegistryFailure(
        UnresolvedReason.MALFORMED,
        f"{authority} asks for a login of another kind than Bearer and Basic",
        "look at the registry's configuration",
    )


def unauthorized(authority: str, repository: str, *, logins: int = 0, helper: str | None = None) -> RegistryFailure:
    """Return the failure of a registry that does not let a repository be read.

    Args:
        authority: HOST[:PORT] of the registry.
        repository: name of the repository.
        logins: how many credentials were tried.
        helper: the credential helper that has the login.
    """
    if logins:
        remedy = "correct the user name or password, and what the user may pull"
        had = "does not accept the login" if logins == 1 else f"does not accept any of {logins} logins"
    elif helper:
        had = "asks for a login"
        remedy = (
            f"config.json leaves it to the credential helper {helper[:60]!r}, which ledgergate does not run: "
            "add a login of its own, or a pull secret"
        )
    else:
        had, remedy = "asks for a login", "add a pull secret for it, or log in with `docker login`"
    return RegistryFailure(UnresolvedReason.UNAUTHORIZED, f"{authority} {had} to {repository}", remedy)


async def _token(
    transport: RegistryTransport,
    settings: RegistrySettings,
    authority: str,
    repository: str,
    credential: Credential | None,
    challenge: Challenge,
) -> str:
    realm = _realm(challenge.parameters.get("realm", ""), settings, authority)
    registry = host_of(authority)
    named = settings.token_hosts.get(authority, frozenset())
    if credential and not may_see_credentials(realm.raw_host or "", registry, named):
        raise RegistryFailure(
            UnresolvedReason.UNAUTHORIZED,
            f"{authority} sends its login to the token server {realm.raw_host}, which is not of its domain",
            "allow this token server for ledgergate, if it is the registry's",
        )
    # The scope is built here, not taken from the challenge: a registry cannot ask for a token that opens more.
    query = {"service": challenge.parameters.get("service", ""), "scope": f"repository:{repository}:pull"}
    limit = settings.limits.token
    if credential and credential.kind == "identity":
        form = {"grant_type": "refresh_token", "client_id": "ledgergate", "refresh_token": credential.password, **query}
        answer = await transport.request(realm, limit=limit, method="POST", form=form, redirects=False)
    else:
        headers = {"Authorization": credential.basic()} if credential else {}
        answer = await transport.request(
            realm.extend_query({name: value for name, value in query.items() if value}),
            limit=limit,
            headers=headers,
            redirects=False,
        )
    if answer.status in _UNUSABLE:
        raise unauthorized(authority, repository, logins=1 if credential else 0)
    try:
        found = msgspec.json.decode(answer.body, type=_Token) if answer.status == 200 else _Token()  # noqa: PLR2004
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _Token()
    return f"Bearer {_printable(found.token or found.access_token, authority)}"


def _realm(text: str, settings: RegistrySettings, authority: str) -> URL:
    realm = parse_url(text)
    # A token is as secret as a password: it goes without TLS only where the registry is configured as one without TLS.
    schemes = ("https", "http") if settings.scheme(authority) == "http" else ("https",)
    if realm is None or realm.scheme not in schemes:
        raise RegistryFailure(
            UnresolvedReason.MALFORMED,
            f"{authority} names a token server that is not at an {schemes[0]} address",
            "look at the registry's configuration",
        )
    return realm


def _printable(token: str, authority: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise RegistryFailure(
            UnresolvedReason.MALFORMED, f"the token server of {authority} gives no token", "look at its configuration"
        )
    return token
