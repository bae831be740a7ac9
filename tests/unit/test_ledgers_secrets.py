"""A Secret as the address of a database: what is wrong with it is a problem of its gates, however large it is."""

from typing import Any

import pytest

from migrations.postgres.address import Address
from webhook.api.objects import Metadata, Secret
from webhook.core.status import Problem
from webhook.kube.errors import Forbidden, NotFound, Unavailable
from webhook.ledgers.secrets import MAX_SERVERS, MAX_VALUE_BYTES, read_address

KEY = ("ns", "pg")
URL = b"postgresql://u:p@db/app"


class Api:
    """An API server with one Secret, or a refusal."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def read_secret(self, namespace: str, name: str) -> Secret:
        """Return the Secret."""
        assert (namespace, name) == KEY
        if isinstance(self._answer, Exception):
            raise self._answer
        return Secret(metadata=Metadata(namespace="ns", name="pg"), data=self._answer)


@pytest.mark.parametrize(
    ("answer", "words", "transient"),
    [
        (NotFound("404"), "does not exist", False),
        (Forbidden("403"), "--verb=get --resource=secrets --resource-name=pg", False),
        (Unavailable("503"), "cannot be read now", True),
        ({"url": b"\xff"}, "not UTF-8", False),
        ({"url": b"mysql://x"}, "Secret pg: ", False),
        ({}, "missing: ", False),
        ({"url": b"postgresql://u:p@db/app?x=" + b"y" * MAX_VALUE_BYTES}, "missing: ", False),
        ({"url": b"postgresql://u:p@" + b",".join([b"h"] * (MAX_SERVERS + 1)) + b"/app"}, "names 33 servers", False),
        ({"password": b'{"a":' * 3000}, "Secret pg: ", False),
    ],
)
async def test_what_is_wrong_is_a_problem(answer: Any, words: str, transient: bool) -> None:
    """Each problem has its message; only one that can end by itself is transient."""
    found = await read_address(Api(answer), KEY)
    assert isinstance(found, Problem)
    assert words in found.text
    assert found.transient is transient


async def test_keys_of_other_programs_are_ignored() -> None:
    """A Secret may hold more than the address: files that are not text, and large ones."""
    found = await read_address(Api({"url": URL, "keystore": b"\xff" * 100_000}), KEY)
    assert found == Address.from_url(URL.decode())


async def test_certificates_may_be_long() -> None:
    """The bundle of a cloud's authorities is longer than any other value."""
    bundle = b"-----BEGIN CERTIFICATE-----\n" + b"A" * 200_000 + b"\n-----END CERTIFICATE-----\n"
    found = await read_address(Api({"url": URL, "sslrootcert": bundle}), KEY)
    assert isinstance(found, Address)
    assert found.tls.certificates
