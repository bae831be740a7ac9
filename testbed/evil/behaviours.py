"""PostgreSQL servers that misbehave: what a tenant can put at the other end of a Secret's address.

Each behaviour is a coroutine over one connection; :data:`BEHAVIOURS` has them all, by name. They speak protocol 3 well
enough to get as far as they want, and then do what no server does.
https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import asyncio
import base64
import os
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TypeAlias

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Behaviour = Callable[[Reader, Writer], Awaitable[None]]

BEHAVIOURS: dict[str, Behaviour] = {}
"""Every behaviour, by name."""

_SSL_REQUEST = 80877103
OK, KERBEROS, CLEARTEXT, MD5, GSS, GSS_CONTINUE, SSPI, SASL, SASL_CONTINUE, SASL_FINAL = 0, 2, 3, 5, 7, 8, 9, 10, 11, 12
BOOL, NUMERIC, TIMESTAMPTZ, TEXT, TEXT_ARRAY, RECORD, JSONB = 16, 1700, 1184, 25, 1009, 2249, 3802
CHUNK = 256 * 1024


def message(kind: str, body: bytes = b"", length: int | None = None) -> bytes:
    """Return a message; `length`, if given, is written in place of its true length."""
    return kind.encode() + struct.pack("!i", len(body) + 4 if length is None else length) + body


def authentication(code: int, body: bytes = b"") -> bytes:
    """Return a message of the authentication."""
    return message("R", struct.pack("!i", code) + body)


def parameter(name: str, value: str) -> bytes:
    """Return a ParameterStatus."""
    return message("S", f"{name}\0{value}\0".encode())


def error(text: bytes, code: bytes = b"XX000") -> bytes:
    """Return an ErrorResponse."""
    return message("E", b"SFATAL\0VFATAL\0C" + code + b"\0M" + text + b"\0\0")


def columns(*types: int) -> bytes:
    """Return a RowDescription."""
    fields = b"".join(b"c%d\0" % at + struct.pack("!ihihih", 0, 0, oid, -1, -1, 1) for at, oid in enumerate(types))
    return message("T", struct.pack("!H", len(types)) + fields)


def row(*values: bytes | None) -> bytes:
    """Return a DataRow."""
    cells = (struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v for v in values)
    return message("D", struct.pack("!H", len(values)) + b"".join(cells))


READY = message("Z", b"I")
GREETING = b"".join(
    (
        authentication(OK),
        parameter("server_version", "18.1"),
        parameter("client_encoding", "UTF8"),
        parameter("standard_conforming_strings", "on"),
        message("K", struct.pack("!ii", 4711, 42)),
        READY,
    )
)


async def startup(reader: Reader, writer: Writer, *, tls: bytes = b"N") -> bool:
    """Read up to the StartupMessage, answering a request for TLS; return False after any answer but a refusal."""
    while True:
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        body = await reader.readexactly(length - 4)
        if body[:4] != struct.pack("!i", _SSL_REQUEST):
            return True
        writer.write(tls)
        if tls != b"N":
            return False


async def flood(writer: Writer, block: bytes) -> None:
    """Send a block again and again until the other side closes the connection."""
    block *= max(1, CHUNK // len(block))
    while True:
        writer.write(block)
        await writer.drain()


async def forever() -> None:
    """Keep the connection open and do nothing more."""
    await asyncio.get_running_loop().create_future()


async def answer(reader: Reader, writer: Writer, description: bytes, rows: bytes, after: bytes = b"") -> None:
    """Answer every query with these columns and rows."""
    pending: list[str] = []
    while True:
        kind = (await reader.readexactly(1)).decode()
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        if kind == "X":
            return
        pending.append(kind)
        if kind not in "QSH":
            continue
        replies = {"P": message("1"), "B": message("2"), "C": message("3"), "S": READY, "H": b""}
        replies |= {"D": message("t", b"\0\0") + description, "E": rows + message("C", b"SELECT 1\0") + after}
        replies |= {"Q": message("C", b"SELECT 1\0") + READY}
        for each in pending:
            writer.write(replies.get(each, b""))
        pending.clear()
        await writer.drain()


def behaviour(work: Behaviour) -> Behaviour:
    """Register a behaviour under its function's name."""
    BEHAVIOURS[work.__name__] = work
    return work


def _sends(name: str, *blocks: bytes, endless: bytes = b"", close: bool = False) -> None:
    """Register a behaviour that, after the start, sends blocks, then repeats one, closes or stays silent."""

    async def work(reader: Reader, writer: Writer) -> None:
        await startup(reader, writer)
        for block in blocks:
            writer.write(block)
            await writer.drain()
        if endless:
            await flood(writer, endless)
        if not close:
            await forever()

    BEHAVIOURS[name] = work


def _answers(name: str, description: bytes, rows: bytes, after: bytes = b"") -> None:
    """Register a behaviour that opens a session as it should, and answers each query with these rows."""

    async def work(reader: Reader, writer: Writer) -> None:
        await startup(reader, writer)
        writer.write(GREETING)
        await answer(reader, writer, description, rows, after)

    BEHAVIOURS[name] = work


def _asks_scram(name: str, first: Callable[[bytes], bytes], final: bytes = b"") -> None:
    """Register a behaviour that authenticates by SCRAM, with this answer to the client's nonce."""

    async def work(reader: Reader, writer: Writer) -> None:
        await startup(reader, writer)
        writer.write(authentication(SASL, b"SCRAM-SHA-256\0\0"))
        await reader.readexactly(1)
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        nonce = (await reader.readexactly(length - 4)).rpartition(b"r=")[2]
        writer.write(authentication(SASL_CONTINUE, first(nonce)))
        await reader.readexactly(1)
        if final:
            writer.write(authentication(SASL_FINAL, final) + GREETING)
        await forever()

    BEHAVIOURS[name] = work


SALT = base64.b64encode(b"salt" * 4)

for _name, _code in (
    ("asks_for_gss", GSS),
    ("asks_for_sspi", SSPI),
    ("asks_for_kerberos", KERBEROS),
    ("asks_for_what_is_unknown", 99),
    ("continues_gss_first", GSS_CONTINUE),
    ("continues_sasl_first", SASL_CONTINUE),
    ("ends_sasl_first", SASL_FINAL),
    ("offers_no_sasl_mechanism", SASL),
):
    _sends(_name, authentication(_code, b"\0\0\0\0"))
_sends("offers_unknown_sasl_mechanisms", authentication(SASL, b"\xff\xfeX\0\0"))
_sends("asks_for_the_password_without_end", endless=authentication(CLEARTEXT))
_sends("asks_for_md5_without_end", endless=authentication(MD5, b"salt"))
_asks_scram("asks_for_a_billion_iterations", lambda nonce: b"r=" + nonce + b"x,s=" + SALT + b",i=1000000000")
_asks_scram("asks_for_no_iteration", lambda nonce: b"r=" + nonce + b"x,s=" + SALT + b",i=0")
_asks_scram("asks_for_iterations_beyond_numbers", lambda nonce: b"r=" + nonce + b"x,s=" + SALT + b",i=" + b"9" * 5000)
_asks_scram("has_another_nonce", lambda _: b"r=another,s=" + SALT + b",i=4096")
_asks_scram("has_no_nonce", lambda _: b"hello")
_asks_scram("has_a_huge_salt", lambda nonce: b"r=" + nonce + b"x,s=" + base64.b64encode(b"x" * 10**7) + b",i=4096")
_asks_scram("signs_wrongly", lambda nonce: b"r=" + nonce + b"x,s=" + SALT + b",i=4096", b"v=AAAA")
_sends("says_nothing")
_sends("closes_after_the_start", close=True)
_sends("closes_within_a_message", message("R", b"\0\0", length=8), close=True)
_sends("speaks_http", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", close=True)
_sends("sends_noise", os.urandom(65536))
_sends("sends_noise_without_end", endless=os.urandom(65536))
_sends("announces_2_gb", message("R", b"\0\0\0\0", length=2**31 - 1), endless=b"\0" * 1024)
_sends("announces_2_gb_and_sends_nothing", message("R", b"\0\0\0\0", length=2**31 - 1))
_sends("announces_less_than_nothing", message("R", b"\0\0\0\0", length=-1), endless=b"\0" * 1024)
_sends("announces_a_length_of_zero", endless=message("R", length=0))
_sends("announces_a_length_of_three", endless=message("R", length=3))
_sends("cuts_the_authentication_short", message("R"))
_sends("fails_with_50_mb", error(b"x" * 50_000_000), close=True)
_sends("fails_not_in_utf_8", error(b"\xff\xfe\x80"), close=True)
_sends("fails_with_an_odd_code", error(b"odd", b"\xff\xff\xff\xff\xff\xff\xff"), close=True)
_sends("fails_without_fields", message("E"), close=True)
_sends("fails_without_end", endless=error(b"again"))
_sends("has_no_room", error(b"sorry, too many clients already", b"53300"), close=True)
_sends("notices_without_end", endless=message("N", b"SNOTICE\0C00000\0Mhello\0\0"))
_sends("notices_without_end_once_open", GREETING, endless=message("N", b"SNOTICE\0C00000\0Mhello\0\0"))
_sends("sets_parameters_without_end", endless=parameter("x", "y"))
_sends("sets_ever_new_parameters", *(parameter(f"p{n}" * 50, "y" * 1000) for n in range(20_000)))
_sends("notifies_without_end", GREETING, endless=message("A", struct.pack("!i", 1) + b"ledgergate\0\0"))
_sends("sends_unknown_messages_without_end", endless=message("?", b"?"))
_sends("negotiates_the_protocol", message("v", struct.pack("!ii", 0, 2**31 - 1)), GREETING)
_sends("is_ready_at_once", READY)
_sends("is_ready_without_end", endless=READY)
_sends("is_ready_in_an_odd_state", authentication(OK), message("Z", b"X"))
_sends("has_an_odd_version", authentication(OK), parameter("server_version", "one\n"), READY)
_sends("has_an_odd_encoding", authentication(OK), parameter("client_encoding", "KLINGON"), READY)
_sends("has_a_long_key", authentication(OK), message("K", b"x" * 100_000), READY)
_sends("sends_rows_that_were_not_asked_for", GREETING, columns(BOOL), endless=row(b"t"))
_sends("answers_no_query", GREETING)
_sends("copies_out", GREETING, message("H", b"\0\0\0"), endless=message("d", b"x" * 100))
_sends("copies_in", GREETING, message("G", b"\0\0\0"))

FAR = struct.pack("!q", 2**63 - 2)
_answers("answers_with_false_bytes", columns(BOOL), row(b"no bool"))
_answers("answers_with_too_many_cells", columns(BOOL), row(*[b"\1"] * 100))
_answers("answers_with_too_few_cells", columns(BOOL, BOOL, BOOL), row(b"\1"))
_answers("answers_with_a_cell_of_negative_length", columns(BOOL), message("D", struct.pack("!Hi", 1, -5)))
_answers("answers_with_a_cell_beyond_its_row", columns(TEXT), message("D", struct.pack("!Hi", 1, 10**6) + b"x"))
_answers("answers_with_65535_columns", columns(*[TEXT] * 65535), b"")
_answers("answers_with_text_that_is_not_utf_8", columns(TEXT), row(b"\xff\xfe"))
_answers("answers_with_a_far_time", columns(TIMESTAMPTZ), row(FAR))
_answers("answers_with_a_huge_number", columns(NUMERIC), row(struct.pack("!hhHh", 1, 32767, 0, 0) + b"\0\1"))
_answers("answers_with_an_array_of_billions", columns(TEXT_ARRAY), row(struct.pack("!iiiii", 1, 0, TEXT, 2**31 - 1, 1)))
_answers("answers_with_an_array_of_a_thousand_dimensions", columns(TEXT_ARRAY), row(struct.pack("!iii", 1000, 0, TEXT)))
_answers("answers_with_an_unknown_type", columns(987654), row(b"x"))
_answers("answers_with_odd_json", columns(JSONB), row(b"\x09{}"))
_answers("answers_with_other_columns_than_asked", columns(TEXT), row(b"x"))
_answers("answers_with_no_row", columns(BOOL), b"")
_answers("answers_with_an_error_each_time", columns(BOOL), error(b"no", b"XX001"))
_answers("answers_twice", columns(BOOL), row(b"\1"), READY + message("C", b"SELECT 1\0") + READY)


def _nested_records(depth: int) -> Iterator[bytes]:
    value = b""
    for _ in range(depth):
        value = struct.pack("!iii", 1, RECORD, len(value)) + value
    yield value


_answers("answers_with_records_in_records", columns(RECORD), row(*_nested_records(20_000)))


@behaviour
async def closes_at_once(reader: Reader, writer: Writer) -> None:
    """Accept, and close."""


@behaviour
async def answers_tls_with_noise(reader: Reader, writer: Writer) -> None:
    """Agree to TLS, and send random bytes instead of a handshake."""
    if not await startup(reader, writer, tls=b"S"):
        await flood(writer, os.urandom(1024))


@behaviour
async def answers_tls_with_silence(reader: Reader, writer: Writer) -> None:
    """Agree to TLS, and send nothing."""
    await startup(reader, writer, tls=b"S")
    await forever()


@behaviour
async def answers_tls_oddly(reader: Reader, writer: Writer) -> None:
    """Neither agree to TLS nor refuse it."""
    await startup(reader, writer, tls=b"X")
    await forever()


@behaviour
async def sends_a_byte_a_second(reader: Reader, writer: Writer) -> None:
    """Send what is right, but slowly."""
    await startup(reader, writer)
    for byte in GREETING:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)


@behaviour
async def sends_rows_without_end(reader: Reader, writer: Writer) -> None:
    """Answer the first query with rows, as fast as the network allows."""
    await startup(reader, writer)
    writer.write(GREETING)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await answer(reader, writer, columns(TEXT), row(b"x" * 1000))
    await flood(writer, row(b"x" * 1000))


@behaviour
async def sends_one_cell_without_end(reader: Reader, writer: Writer) -> None:
    """Answer the first query with one cell of two gigabytes."""
    await startup(reader, writer)
    writer.write(GREETING)
    await reader.readexactly(1)
    writer.write(message("1") + message("t", b"\0\0") + columns(TEXT) + READY)
    await reader.readexactly(1)
    writer.write(message("2") + b"D" + struct.pack("!iHi", 2**31 - 1, 1, 2**31 - 20))
    await flood(writer, b"x" * 1024)


@behaviour
async def sends_a_row_now_and_then(reader: Reader, writer: Writer) -> None:
    """Answer the first query with a row every tenth of a second, without end."""
    await startup(reader, writer)
    writer.write(GREETING)
    await reader.readexactly(1)
    writer.write(message("1") + message("t", b"\0\0") + columns(TEXT) + READY)
    await reader.readexactly(1)
    writer.write(message("2"))
    while True:
        writer.write(row(b"x"))
        await writer.drain()
        await asyncio.sleep(0.1)
