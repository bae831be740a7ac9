"""What a client's HTTP session needs beside the credentials: the proxy, and the user that a kubeconfig acts as.

kubernetes_asyncio leaves both out: aiohttp reads NO_PROXY without networks, such as 10.0.0.0/8, and the library ignores
`as` of a kubeconfig, so that a command would run with other rights than kubectl's.
"""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

from webhook.core.proxies import Proxies

_PORTS = {"http": 80, "https": 443}


def find_proxy(host: str, environment: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy by which kubectl would reach an API server; None for a direct connection.

    Go's programs also never use a proxy for this machine:
    https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config.ProxyFunc

    Args:
        host: the API server's URL.
        environment: HTTPS_PROXY, HTTP_PROXY, NO_PROXY, or the same in small letters.
    """
    url = urlsplit(host)
    name = url.hostname or ""
    if name == "localhost" or _is_loopback(name):
        return None
    return Proxies.from_environment(environment).find(url.scheme, name, url.port or _PORTS.get(url.scheme, 0))


def impersonation(user: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the headers of the user that a kubeconfig acts as; none without `as`.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation

    Args:
        user: the kubeconfig's `user`: `as`, `as-uid`, `as-groups`, `as-user-extra`.

    Raises:
        ValueError: one of them is of another type, or groups, uid or extras come without `as`.
    """
    name, groups, extra = user.get("as") or "", user.get("as-groups") or [], user.get("as-user-extra") or {}
    uid = user.get("as-uid") or ""
    if not isinstance(name, str) or not isinstance(uid, str):
        raise ValueError("users[].user: expected text in `as` and `as-uid`")  # noqa: TRY004 - of the file, not of the caller
    if not _is_texts(groups) or not isinstance(extra, Mapping) or not all(map(_is_texts, extra.values())):
        raise ValueError("users[].user: expected a list of texts in `as-groups`, and in each key of `as-user-extra`")
    if not name and (groups or extra or uid):
        raise ValueError("users[].user: expected `as` with `as-uid`, `as-groups` and `as-user-extra`")
    if name:
        yield "Impersonate-User", name
    if uid:
        yield "Impersonate-Uid", uid
    for group in groups:
        yield "Impersonate-Group", group
    for key, values in extra.items():
        for value in values:
            yield f"Impersonate-Extra-{quote(str(key).lower(), safe='')}", value


def _is_texts(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(each, str) for each in found)


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
