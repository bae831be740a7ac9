"""The frames between a process that decides which ledgers are read and a worker process that reads them.

A frame is its length, as four bytes, and that many bytes of msgpack. Both directions are bounded: a worker faces
servers that tenants choose, so its parent neither stores nor decodes more than the limits here.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.snapshot import ActiveMigration, Fault
from migrations.core.text import clean
from migrations.core.versioning import Versioning
from migrations.postgres.resolution import ConnectionPlan

HEADER_BYTES = 4
MAX_REQUEST_BYTES = 2 * 1024**2
"""Bytes of a frame to a worker: an address, whose largest part is a Secret's certificates, and up to 100 ledgers."""
MAX_ANSWER_BYTES = 4 * 1024**2
"""Bytes of a frame from a worker. A ledger of 20,000 revisions with usual names takes a quarter of it."""
MAX_TEXT = 1_000
"""Characters of a fault's text: what a server says may be of any length."""


Place = Annotated[int, msgspec.Meta(ge=0)]
"""Index of a ledger in a visit's list. A negative index would count from the end, and so name another ledger."""


class FrameTooLarge(ValueError):  # noqa: N818 - says what happened
    """A frame has more bytes than its direction allows."""


class LedgerName(msgspec.Struct, frozen=True, array_like=True):
    """A ledger of a database: see `LedgerSource`.

    Attributes:
        dialect: Name of the dialect.
        schema: Schema of the table; None for the dialect's default.
        table: Name of the table; None for the dialect's default.
    """

    dialect: str
    schema: str | None = None
    table: str | None = None


class Visit(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Open a session with one database and read its ledgers, once or until `Leave`.

    Attributes:
        job: Number of the visit, which every answer repeats.
        tenant: Whose database it is; what a tenant can keep busy, such as name resolution, is limited for each tenant.
        plan: The database and the role.
        ledgers: What to read; an answer names one by its place in this list.
        application_name: What `pg_stat_activity` shows.
        follow: Whether to stay, and report changes, until `Leave`.
        urgent: Whether pods wait.
        allowed: The servers that may be connected to, as `HostPolicy` reads them; empty for any.
    """

    job: int
    tenant: str
    plan: ConnectionPlan
    ledgers: tuple[LedgerName, ...]
    application_name: str
    follow: bool = False
    urgent: bool = False
    allowed: tuple[str, ...] = ()


class Poll(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Read the ledgers of a visit now, and from now on as often as `urgent` says."""

    job: int
    urgent: bool


class Leave(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """End a visit."""

    job: int


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Ask whether the worker's loop turns."""

    number: int


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The loop turns."""

    number: int


class Run(msgspec.Struct, frozen=True, array_like=True):
    """Who migrates now: see `ActiveMigration`; `since` in seconds of Unix time."""

    holder: str
    revision: str | None
    since: float | None


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a verdict needs of a ledger's record: see `Record`."""

    revision: str
    state: State
    compatible_from: str | None = None
    baseline: bool = False


class Reading(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What a ledger holds.

    Attributes:
        job: Number of the visit.
        ledger: Place in the visit's list.
        seconds: How long the read took.
        entries: The records, oldest first; None where they are those of the visit's last reading.
        history: How much the tool records.
        versioning: What makes two names one revision.
        standby: Whether the server is in recovery.
        missing_table: Schema and name of the table where it does not exist.
    """

    job: int
    ledger: Place
    seconds: float
    entries: tuple[Entry, ...] | None
    history: History
    versioning: Versioning
    standby: bool
    missing_table: str = ""


class Migrating(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Who migrates a ledger now; None where no session does, or none was looked up."""

    job: int
    ledger: Place
    run: Run | None


class FaultFound(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A ledger, or the database, cannot be read.

    Attributes:
        job: Number of the visit.
        ledger: Place in the visit's list; None where it concerns the session, and so every ledger.
        fault: Why.
        detail: What is wrong with the table, for users; without a host name.
        text: What happened, for the log; it may name the host, never a password.
        crowded: Whether the server has no room for another session (SQLSTATE 53300).
        hostile: Whether another attempt soon would only cost: the answer cannot be decoded, is too large or never ends.
    """

    job: int
    ledger: Place | None
    fault: Fault
    detail: str
    text: str
    crowded: bool = False
    hostile: bool = False


class Left(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A visit has ended, and its session is closed."""

    job: int


Request = Visit | Poll | Leave | Ping
Answer = Reading | Migrating | FaultFound | Left | Pong

_encoder = msgspec.msgpack.Encoder()
_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answer_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode_request(request: Request) -> bytes:
    """Return the frame of a request.

    Raises:
        FrameTooLarge: It has more than `MAX_REQUEST_BYTES`.
    """
    return _frame(request, MAX_REQUEST_BYTES)


def encode_answer(answer: Answer) -> bytes:
    """Return the frame of an answer.

    Raises:
        FrameTooLarge: It has more than `MAX_ANSWER_BYTES`.
    """
    return _frame(answer, MAX_ANSWER_BYTES)


def decode_request(body: bytes) -> Request:
    """Return the request in a frame's body.

    Raises:
        msgspec.DecodeError: The body is not a request.
    """
    try:
        return _request_decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:  # msgspec raises these too
        raise msgspec.DecodeError(str(error)) from error


def decode_answer(body: bytes) -> Answer:
    """Return the answer in a frame's body.

    Raises:
        msgspec.DecodeError: The body is not an answer.
    """
    try:
        return _answer_decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def frame_length(header: bytes, limit: int) -> int:
    """Return the length of the body that follows a header.

    Raises:
        FrameTooLarge: It exceeds the limit, in bytes.
    """
    length = int.from_bytes(header, "big")
    if length > limit:
        raise FrameTooLarge(f"a frame of {length:,} bytes, expected at most {limit:,}")
    return length


def to_entries(ledger: Ledger) -> tuple[Entry, ...]:
    """Return what a verdict needs of a ledger."""
    return tuple(Entry(each.revision, each.state, each.compatible_from, each.baseline) for each in ledger.records)


def to_ledger(reading: Reading) -> Ledger | None:
    """Return the ledger of a reading; None where it is unchanged."""
    if reading.entries is None:
        return None
    records = (
        Record(each.revision, each.state, compatible_from=each.compatible_from, baseline=each.baseline)
        for each in reading.entries
    )
    return Ledger.of(records, reading.history, reading.versioning)


def to_run(run: ActiveMigration | None) -> Run | None:
    """Return who migrates, in the form of the wire."""
    if run is None:
        return None
    since = None if run.since is None else run.since.timestamp()
    return Run(cut(run.holder), run.revision and cut(run.revision), since)


def to_active(run: Run | None) -> ActiveMigration | None:
    """Return who migrates; without `since` where that is not a time which `datetime` can hold."""
    if run is None:
        return None
    try:
        since = None if run.since is None else datetime.fromtimestamp(run.since, UTC)
    except (OverflowError, ValueError, OSError):
        since = None
    return ActiveMigration(run.holder, run.revision, since)


def cut(text: str) -> str:
    """Cut a text to `MAX_TEXT` characters, and replace what cannot be encoded or shown."""
    return clean(text[:MAX_TEXT], lines=True).encode(errors="replace").decode()


def _frame(message: Any, limit: int) -> bytes:
    body = _encoder.encode(message)
    if len(body) > limit:
        raise FrameTooLarge(f"a frame of {len(body):,} bytes, expected at most {limit:,}")
    return len(body).to_bytes(HEADER_BYTES, "big") + body
