"""The order and the sizes of a server's messages."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.postgres.protocol_guard import MAX_LONG, MAX_SHORT, MessageCheck, OutOfProtocol
from testbed.evil.behaviours import GREETING, READY, authentication, columns, error, message, row

SCRAM = authentication(10, b"SCRAM-SHA-256\0\0") + authentication(11, b"r=a,s=b,i=4096") + authentication(12, b"v=c")
SESSION = GREETING + columns(25) + row(b"x" * 100) * 20 + message("C", b"SELECT 20\0") + READY


def fed(data: bytes, cuts: list[int] | None = None) -> bytes:
    """Return what asyncpg gets of a stream that arrives in pieces."""
    check, kept, passed = MessageCheck(), b"", b""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts or ()), len(data)]
    for start, end in pairwise(edges):
        piece = kept + data[start:end]
        count = check.complete(piece)
        passed, kept = passed + piece[:count], piece[count:]
    return passed + kept


@given(st.sampled_from([SESSION, SCRAM + SESSION, authentication(5, b"salt") + SESSION]), st.lists(st.integers(0)))
def test_what_a_server_sends_is_passed_on_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    """Nothing is lost, doubled or refused, wherever the network cuts the stream."""
    assert fed(data, cuts) == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (authentication(11, b"r=a"), "out of order, at request 11"),
        (authentication(12), "out of order, at request 12"),
        (authentication(8), "out of order, at request 8"),
        (authentication(10, b"SCRAM-SHA-256\0\0") + authentication(12), "out of order, at request 12"),
        (authentication(10, b"SCRAM-SHA-256\0\0") + authentication(0), "out of order, at request 0"),
        (SCRAM + authentication(11, b"r=a"), "out of order, at request 11"),
        (authentication(3) * 2, "out of order, at request 3"),
        (message("R", length=2**31 - 1), "'R' of 2,147,483,647 bytes, expected 8 to 2,000"),
        (message("R"), "'R' of 4 bytes, expected 8 to 2,000"),
        (message("E", length=MAX_SHORT + 1), "'E' of 30,001 bytes"),
        (message("N", b"SNOTICE\0\0"), "a message 'N' where it has to ask"),
        (READY, "a message 'Z' where it has to ask"),
        (b"\0" * 5, "type 0 where it has to ask"),
        (GREETING + message("D", length=MAX_LONG + 1), "'D' of 1,073,741,825 bytes"),
        (GREETING + message("C", length=MAX_SHORT + 1), "'C' of 30,001 bytes, expected 4 to 30,000"),
        (GREETING + message("D", length=3), "'D' of 3 bytes"),
        (GREETING + message("D", length=-1), "'D' of -1 bytes"),
    ],
)
def test_what_no_server_sends_is_refused_and_said(data: bytes, words: str) -> None:
    """At once, before asyncpg has seen it, whether it comes in one piece or byte by byte."""
    for cuts in ([], list(range(len(data)))):
        with pytest.raises(OutOfProtocol) as caught:
            fed(data, cuts)
        assert words in str(caught.value)


def test_messages_that_may_be_long_are_passed_on() -> None:
    """A row of a gigabyte, and an error of any length once the session is open."""
    for kind in "DTdENAtV":
        assert fed(GREETING + message(kind, length=MAX_LONG)) == GREETING + message(kind, length=MAX_LONG)


def test_a_request_that_is_unknown_is_left_to_the_driver() -> None:
    """It says which one it does not support."""
    assert fed(authentication(99)) == authentication(99)
    assert fed(error(b"no", b"28P01")) == error(b"no", b"28P01")


def test_a_body_counts_across_pieces() -> None:
    """Bytes that look like a header inside a message's body are not read as one."""
    body = struct.pack("!i", 2**31 - 1) * 50
    assert fed(GREETING + row(body) + READY, list(range(0, 400, 7))) == GREETING + row(body) + READY
