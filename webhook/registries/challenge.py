"""What a registry asks for with 401, and who may see its credentials. Pure.

Sources: RFC 9110, section 11.6.1 (WWW-Authenticate), and
https://distribution.github.io/distribution/spec/auth/token/ (realm, service, scope).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|$)(?!=)")
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_MAX_HEADER = 4096  # characters of one header that are looked at


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a server offers.

    Args:
        scheme: ``bearer``, ``basic``, ..., in small letters.
        parameters: by name, in small letters.
    """

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read the values of every header ``WWW-Authenticate``; what cannot be read is left out."""
    found = []
    for header in headers:
        text, position = header[:_MAX_HEADER], 0
        while scheme := _SCHEME.match(text, position):
            position = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(text, position):
                name, quoted, plain = parameter.groups()
                parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
                position = parameter.end()
            found.append(Challenge(scheme[1].lower(), parameters))
    return found


def may_see_credentials(realm: str, registry: str, named: Iterable[str] = ()) -> bool:
    """Return whether a token server may see a registry's credentials.

    It may where it is the registry's own host, has the registry's parent domain (``auth.docker.io`` for
    ``registry-1.docker.io``, ``gitlab.com`` for ``registry.gitlab.com``), or is named by the operator.

    Args:
        realm: host of the token server.
        registry: host of the registry.
        named: hosts that the operator names.
    """
    realm, registry = realm.lower().rstrip("."), registry.lower().rstrip(".")
    if realm == registry or realm in named:
        return True
    if _is_address(realm) or _is_address(registry):
        return False
    parent = registry.partition(".")[2]
    # A parent of one label is a top-level domain, which strangers share.
    return "." in parent and (realm == parent or realm.endswith(f".{parent}"))


def host_of(authority: str) -> str:
    """Return the host of HOST[:PORT], without the brackets of IPv6."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
