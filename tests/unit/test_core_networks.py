"""Which database servers may be connected to."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.core.networks import HostPolicy

ANY = HostPolicy.parse(())
SOME = HostPolicy.parse(("pg.shop.svc", ".db.example.com", "*.internal", "10.1.0.0/16", "192.0.2.7", "2001:db8::/32"))
NEVER = (
    "169.254.169.254",
    "169.254.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
)


@pytest.mark.parametrize("address", NEVER)
def test_metadata_services_are_never_reached(address: str) -> None:
    """Whatever is allowed, in whatever notation, and under whatever name."""
    everything = HostPolicy.parse(("0.0.0.0/0", "::/0"))
    for policy in (ANY, SOME, everything):
        assert policy.objection(address, named=False)
        assert policy.objection(address, named=True)


@given(st.ip_addresses())
def test_without_a_list_every_other_server_is_allowed(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Loopback and private addresses too: a database may be anywhere."""
    objection = ANY.objection(str(address), named=False)
    assert not objection or "allows" not in objection


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("pg.shop.svc", True),
        ("PG.shop.svc.", True),
        ("a.b.db.example.com", True),
        ("db.example.com", False),
        ("x.internal", True),
        ("xinternal", False),
        ("evildb.example.com", False),
        ("pg.shop.svc.evil.com", False),
        ("10.1.2.3", False),
    ],
)
def test_names_and_suffixes(host: str, allowed: bool) -> None:
    """A suffix begins at a dot; a name is the whole name; an address is none."""
    assert SOME.allows_name(host) is allowed


def test_networks_and_named_addresses() -> None:
    """An address counts by its network, or because its name is allowed."""
    assert SOME.objection("10.1.2.3", named=False) == ""
    assert SOME.objection("::ffff:10.1.2.3", named=False) == ""
    assert SOME.objection("192.0.2.7", named=False) == ""
    assert "--allowed-database-hosts" in SOME.objection("10.2.2.3", named=False)
    assert SOME.objection("10.2.2.3", named=True) == ""
    assert "not an IP" in SOME.objection("/run/postgresql", named=True)


def test_every_wrong_text_is_named() -> None:
    """All of them are reported at once."""
    with pytest.raises(ValueError, match=r"got 'a b', '10\.0\.0\.0/33', 'http://x', '', '999\.1\.1\.1'"):
        HostPolicy.parse(("a b", "10.0.0.0/33", "ok.example.com", "http://x", "", "999.1.1.1"))
