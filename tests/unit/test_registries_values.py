"""The pure parts of the registry client: references, addresses, proxies, challenges, documents."""

import json
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from webhook.core.proxies import Proxies
from webhook.registries.addresses import EVERYTHING, AddressPolicy, cluster_networks, parse_networks
from webhook.registries.challenge import Challenge, host_of, may_see_credentials, parse_challenges
from webhook.registries.documents import config_of, decode_config, decode_manifest, images_of, labels_of
from webhook.registries.reference import ImageReference, ImageReferenceError
from webhook.registries.result import Platform, RegistryFailure
from webhook.registries.settings import RegistrySettings
from webhook.registries.urls import parse_url

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "version"),
    [
        ("postgres", "docker.io", "library/postgres", "latest"),
        ("postgres:16", "docker.io", "library/postgres", "16"),
        ("shop/gateway", "docker.io", "shop/gateway", "latest"),
        ("docker.io/postgres", "docker.io", "library/postgres", "latest"),
        ("index.docker.io/library/postgres", "docker.io", "library/postgres", "latest"),
        ("ghcr.io/shop/gateway:2", "ghcr.io", "shop/gateway", "2"),
        ("localhost/x", "localhost", "x", "latest"),
        ("registry:5000/x:1", "registry:5000", "x", "1"),
        ("GHCR.io/x", "ghcr.io", "x", "latest"),
        ("[::1]:5000/a/b/c", "[::1]:5000", "a/b/c", "latest"),
        (f"ghcr.io/x@{DIGEST}", "ghcr.io", "x", DIGEST),
        (f"ghcr.io/x:2@{DIGEST}", "ghcr.io", "x", DIGEST),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(text: str, registry: str, repository: str, version: str) -> None:
    """With Docker Hub where no registry is named, and `latest` where neither tag nor digest is; the digest counts."""
    found = ImageReference.parse(text)
    assert (found.registry, found.repository, found.version) == (registry, repository, version)
    assert ImageReference.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/",
        "x:",
        "x@",
        "X",
        "a//b",
        "a/",
        "/a",
        "ghcr.io/",
        "ghcr.io/X",
        "x:a b",
        "x:" + "t" * 129,
        "x@sha256:0",
        "x@md5:" + "0" * 32,
        "ghcr.io:port/x",
        "user@ghcr.io/x",
        "https://ghcr.io/x",
        "ghcr.io/../x",
        "ghcr.io/x?y",
        "ghcr.io/x#y",
        "ghcr.io/x%2e",
        "-a.b/x",
        "a" * 600,
        "ghcr.io/" + "a" * 255,
        "ghcr.io\n/x",
        "x\n",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    """Nothing that could become another path, host or query of a request."""
    with pytest.raises(ImageReferenceError, match="expected NAME"):
        ImageReference.parse(text)


@given(
    st.text(max_size=60)
    | st.text("ahtps:/[]@.%?#0-x", max_size=30)
    | st.from_regex(r"https?://[^/]{0,20}(:[0-9]{0,6})?/.{0,9}", fullmatch=True)
)
def test_any_url_of_a_registry_is_read_or_refused(text: str) -> None:
    """Without an exception; what is read can be taken apart, has no user and a host of plain characters."""
    for base in (None, URL("https://ghcr.io/v2/x")):
        url = parse_url(text, base)
        if url is not None:
            assert url.user is None
            assert url.origin().raw_host
            assert (url.host or "").isascii()
            assert str(url).isprintable()


@given(st.text(max_size=100) | st.text("aA0.:/@-_[]", max_size=40) | st.text("A0.:/", max_size=8))
def test_any_reference_is_parsed_or_refused(text: str) -> None:
    """And a parsed one is parsed again from its own text."""
    with suppress(ImageReferenceError):
        found = ImageReference.parse(text)
        assert ImageReference.parse(str(found)) == found


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.1",
        "::1",
        "::",
        "169.254.169.254",
        "169.254.1.1",
        "fe80::1",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "10.96.0.10",
        "::ffff:10.96.0.1",
    ],
)
def test_addresses_that_are_refused(address: str) -> None:
    """In every notation of an address of IPv4 inside one of IPv6; the cluster's Services where they are configured."""
    policy = AddressPolicy(refused=(ip_network("10.96.0.0/12"),))
    assert policy.objection(ip_address(address))
    assert EVERYTHING.objection(ip_address(address)) is None


@pytest.mark.parametrize("address", ["8.8.8.8", "10.0.0.5", "192.168.1.5", "172.16.0.1", "2606:4700::1", "fd12::1"])
def test_addresses_that_are_connected_to(address: str) -> None:
    """Public ones and those of private networks, where companies have their registries."""
    assert AddressPolicy().objection(ip_address(address)) is None


def test_a_network_can_be_allowed() -> None:
    """An address that is allowed is so in both notations, and its neighbours are not."""
    policy = AddressPolicy(allowed=(ip_network("127.0.0.1/32"),))
    assert policy.objection(ip_address("127.0.0.1")) is None
    assert policy.objection(ip_address("::ffff:127.0.0.1")) is None
    assert policy.objection(ip_address("127.0.0.2"))


def test_the_api_server_is_a_network_to_refuse() -> None:
    """By the address that a pod's environment has; without one, or with a name, there is none."""
    assert cluster_networks({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}) == (ip_network("10.96.0.1/32"),)
    assert cluster_networks({"KUBERNETES_SERVICE_HOST": "fd00::1"}) == (ip_network("fd00::1/128"),)
    assert cluster_networks({}) == cluster_networks({"KUBERNETES_SERVICE_HOST": "api.example"}) == ()


def test_networks_are_read_or_named() -> None:
    """Every text that is no network at once."""
    assert parse_networks([" 10.96.0.0/12", "fd00::1"]) == (ip_network("10.96.0.0/12"), ip_network("fd00::1/128"))
    with pytest.raises(ValueError, match=r"got '10.0.0.0/33', 'no'"):
        parse_networks(["10.0.0.0/33", "10.0.0.0/8", "no"])


def test_settings_name_every_problem(tmp_path: Path) -> None:
    """Of each setting; good ones have none."""
    good = RegistrySettings(
        allowed=("ghcr.io", "*.dkr.ecr.*.amazonaws.com", "*"),
        plain_http=frozenset({"localhost:5000"}),
        mirrors={"docker.io": ("mirror.example:443",)},
        token_hosts={"ghcr.io": frozenset({"auth.example"})},
    )
    assert good.problems() == []
    bad = RegistrySettings(
        allowed=("https://ghcr.io",),
        plain_http=frozenset({"Localhost"}),
        mirrors={"docker.io/": ("http://mirror",)},
        token_hosts={"ghcr.io": frozenset({"auth.example/token"})},
        ca_file=tmp_path / "missing.pem",
    )
    assert len(bad.problems()) == 6
    assert "registry without TLS: expected HOST[:PORT] in small letters, got 'Localhost'" in bad.problems()


def test_proxies_are_found_as_go_finds_them() -> None:
    """NO_PROXY names hosts with their subdomains, networks and ports; capitals or small letters."""
    environment = {
        "HTTPS_PROXY": "proxy.example:3128",
        "http_proxy": "http://user:password@plain.example",
        "NO_PROXY": "localhost, .corp.example,registry.example:5000 ,10.0.0.0/8,*.wild.example",
    }
    proxies = Proxies.from_environment(environment)
    assert proxies.find("https", "ghcr.io", 443) == "http://proxy.example:3128"
    assert proxies.find("http", "ghcr.io", 80) == "http://user:password@plain.example"
    for host, port in (
        ("localhost", 5000),
        ("a.corp.example", 443),
        ("registry.example", 5000),
        ("10.1.2.3", 443),
        ("x.wild.example", 443),
    ):
        assert proxies.find("https", host, port) is None, host
    for host, port in (("registry.example", 443), ("11.0.0.1", 443), ("notcorp.example", 443)):
        assert proxies.find("https", host, port), host
    assert Proxies.from_environment({}).find("https", "ghcr.io", 443) is None
    assert Proxies.from_environment({"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}).find("https", "ghcr.io", 443) is None


@pytest.mark.parametrize(
    ("entry", "host", "direct"),
    [
        ("y.example", "y.example", True),
        ("y.example", "x.y.example", True),
        (".y.example", "x.y.example", True),
        (".y.example", "y.example", False),
        ("*.y.example", "y.example", False),
        ("*y.example", "x.y.example", False),
        ("y.example:", "y.example", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3:443", "10.1.2.3", True),
        ("10.1.2.3:5000", "10.1.2.3", False),
        ("::2", "[::2]", True),
        ("[::2]:443", "[::2]", True),
        ("[::2]", "[::2]", False),
        ("10.0.0.0/99", "10.1.2.3", False),
        ("", "localhost", True),
        ("", "127.0.0.1", True),
        ("", "[::1]", True),
        ("", "localhost.y.example", False),
    ],
)
def test_an_entry_of_no_proxy_matches_as_in_go(entry: str, host: str, direct: bool) -> None:
    """A leading dot excludes the domain itself, and this machine is reached directly, as httpproxy of Go decides."""
    proxies = Proxies.from_environment({"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": entry})
    assert (proxies.find("https", host, 443) is None) is direct


def test_challenges_of_well_known_registries() -> None:
    """Docker Hub's, a Basic one, both in one header, and with blanks and escapes."""
    hub = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull"'
    assert parse_challenges([hub]) == [
        Challenge(
            "bearer",
            {
                "realm": "https://auth.docker.io/token",
                "service": "registry.docker.io",
                "scope": "repository:a/b:pull",
            },
        )
    ]
    assert parse_challenges(['BASIC realm="a \\"b\\"", Bearer realm = x , service=y']) == [
        Challenge("basic", {"realm": 'a "b"'}),
        Challenge("bearer", {"realm": "x", "service": "y"}),
    ]
    assert parse_challenges(["Negotiate", "Basic"]) == [Challenge("negotiate"), Challenge("basic")]


@given(st.lists(st.text(max_size=200) | st.text('Basic= "\\,', max_size=100), max_size=4))
def test_any_challenge_is_read(headers: list[str]) -> None:
    """Without an exception, whatever the header holds."""
    assert all(each.scheme for each in parse_challenges(headers))


@pytest.mark.parametrize(
    ("realm", "registry", "may"),
    [
        ("ghcr.io", "ghcr.io", True),
        ("auth.docker.io", "registry-1.docker.io", True),
        ("gitlab.com", "registry.gitlab.com", True),
        ("evil.invalid", "ghcr.io", False),
        ("io", "ghcr.io", False),
        ("evil.io", "ghcr.io", False),
        ("docker.io.evil.invalid", "registry-1.docker.io", False),
        ("notdocker.io", "registry-1.docker.io", False),
        ("10.0.0.2", "10.0.0.1", False),
        ("1.0.0.1", "0.0.1", False),
        ("10.0.0.1", "10.0.0.1", True),
    ],
)
def test_who_may_see_credentials(realm: str, registry: str, may: bool) -> None:
    """The registry itself and its parent domain, unless that is a top-level domain; or whom the operator names."""
    assert may_see_credentials(realm, registry) is may
    assert may_see_credentials(realm, registry, {realm})


def test_the_host_of_an_authority() -> None:
    """Without port and brackets."""
    assert [host_of(each) for each in ("ghcr.io", "localhost:5000", "[::1]:5000", "[::1]")] == [
        "ghcr.io",
        "localhost",
        "::1",
        "::1",
    ]


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(
            st.sampled_from(
                [
                    "schemaVersion",
                    "mediaType",
                    "config",
                    "manifests",
                    "layers",
                    "digest",
                    "size",
                    "platform",
                    "os",
                    "Labels",
                ]
            ),
            inner | st.lists(inner, max_size=3),
            max_size=5,
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_document_is_read_or_refused(content: bytes) -> None:
    """Any document is read as a manifest, an index or a config blob, or refused by the one expected exception."""
    with suppress(RegistryFailure):
        manifest = decode_manifest(content)
        if manifest.manifests is None:
            config_of(manifest)
        else:
            images_of(manifest, (), 4)
    with suppress(RegistryFailure):
        config = decode_config(content)
        labels_of(config)
        str(config.platform)


def test_platforms() -> None:
    """A node runs what is built for its variant, or for none."""
    arm = Platform.parse("linux/arm/v7")
    assert str(arm) == "linux/arm/v7"
    assert arm.runs(Platform("linux", "arm"))
    assert not arm.runs(Platform("linux", "arm", "v6"))
    assert not arm.runs(Platform("linux", "amd64"))
    for text in ("linux", "linux/", "a/b/c/d", "linux/a\x1b"):
        with pytest.raises(ValueError, match="expected a platform"):
            Platform.parse(text)
