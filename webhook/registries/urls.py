"""The URLs that a registry answers with: where a redirect leads, where its token server is. Pure."""

import re
from ipaddress import IPv6Address

from yarl import URL

_PRINTABLE = re.compile(r"[\x21-\x7e]{1,8192}")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")


def parse_url(text: str, base: URL | None = None) -> URL | None:
    """Return a URL that may be requested, or None.

    It has a host of letters, digits, dots and dashes, or an address; a valid port; no user. It keeps its quoting: the
    signature in a URL of a cloud's storage would not survive another one.

    Args:
        text: what the registry wrote.
        base: the URL that a relative one is relative to.
    """
    if not _PRINTABLE.fullmatch(text):
        return None
    try:
        url = URL(text, encoded=True)
        url = url if base is None else base.join(url)
        host = url.raw_host or ""
        # yarl computes these when they are first asked for, and then raises.
        url.origin()
        _ = url.host, url.port, url.host_port_subcomponent
    except ValueError:
        return None
    if url.raw_user is not None or url.raw_password is not None or not (_HOST.fullmatch(host) or is_ipv6(host)):
        return None
    return url.with_fragment(None)


def is_ipv6(text: str) -> bool:
    """Return whether a text is an address of IPv6, without zone."""
    try:
        return IPv6Address(text).scope_id is None
    except ValueError:
        return False
