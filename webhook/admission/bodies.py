"""Read the bodies of requests: each within its time, all together within one amount of memory.

BodyError             a body was not read; the connection has to be closed, as the end of the body is not known
├── BodyTooLarge      over the limit of one body
├── BodyTooSlow       not complete within its time
└── BodiesTooMany     cut off, so that others can be read
"""

import asyncio
import re
import time
from collections.abc import Callable

from aiohttp import web

BODY_LIMIT = 7 * 2**20
"""Bytes: an object has at most 3 MiB (the API server's own limit), and an update carries two."""

BUDGET = 32 * 2**20
"""Bytes of all bodies that are being received. A review is rarely over 50 KB; the container has 256 MiB."""

BODY_SECONDS = 10.0
"""For a body whose request says no timeout: Kubernetes' default for a webhook."""

_LONGEST = 30.0
"""Seconds: Kubernetes' longest timeout of a webhook."""

_DURATION = re.compile(r"(?:(\d{1,4})m)?(?:(\d{1,6}(?:\.\d{1,9})?)s)?\Z", re.ASCII)


class BodyError(Exception):
    """A body was not read."""


class BodyTooLarge(BodyError):  # noqa: N818 - reads as the reason it is
    """It has more bytes than a review can have."""


class BodyTooSlow(BodyError):  # noqa: N818 - reads as the reason it is
    """It was not complete within its time."""


class BodiesTooMany(BodyError):  # noqa: N818 - reads as the reason it is
    """All bodies together need more memory than they may, and this one has occupied the most for the longest."""


def read_timeout(text: str) -> float:
    """Return the seconds that a request has, from the parameter `timeout` of its URL.

    The API server sends how long it waits, in Go's notation (`10s`); the answer is of no use to it afterwards.
    https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#timeouts
    """
    found = _DURATION.match(text)
    if found is None or not text:
        return BODY_SECONDS
    seconds = 60 * float(found[1] or 0) + float(found[2] or 0)
    return min(seconds, _LONGEST) or BODY_SECONDS


class BodyReader:
    """Reads bodies, and cuts off the costliest where they exceed the budget together.

    The cost is bytes times seconds: what the API server sends is complete in milliseconds, so it costs little, whatever
    its size. A body that never ends is the first to go, and a small one always finds room.

    Args:
        budget: bytes of all bodies together.
        clock: seconds.
    """

    def __init__(self, budget: int = BUDGET, clock: Callable[[], float] = time.monotonic) -> None:
        self._budget = budget
        self._clock = clock
        self._held = 0
        self._bodies: set[_Body] = set()

    @property
    def held(self) -> int:
        """Bytes of the bodies that are being received."""
        return self._held

    async def read(self, request: web.BaseRequest, seconds: float) -> bytes:
        """Read a request's body.

        Args:
            seconds: until it has to be complete.

        Raises:
            BodyError: it was not read.
            web.RequestPayloadError: it is not compressed as its headers say.
        """
        if request.content.is_eof():
            # Small bodies are complete when their headers are handled: nothing is awaited, and no memory occupied.
            data = request.content.read_nowait()
            if len(data) > BODY_LIMIT:
                raise BodyTooLarge
            return data
        if (request.content_length or 0) > BODY_LIMIT:
            raise BodyTooLarge
        body = _Body(self._clock())
        self._bodies.add(body)
        try:
            async with asyncio.timeout(seconds) as body.timeout:
                while chunk := await request.content.readany():
                    self._add(body, chunk)
            return bytes(body.data)
        except TimeoutError as error:
            raise (BodiesTooMany if body.cut else BodyTooSlow) from error
        finally:
            self._bodies.discard(body)
            self._held -= len(body.data)

    def _add(self, body: "_Body", chunk: bytes) -> None:
        if body.cut:
            return
        if len(body.data) + len(chunk) > BODY_LIMIT:
            raise BodyTooLarge
        body.data += chunk
        self._held += len(chunk)
        now = self._clock()
        while self._held > self._budget:
            costliest = max(self._bodies, key=lambda each: len(each.data) * (now - each.began))
            if not costliest.data:  # at the same moment, as it seems to the clock
                costliest = max(self._bodies, key=lambda each: len(each.data))
            self._held -= len(costliest.data)
            costliest.cut_off()


class _Body:
    """A body that is being received."""

    __slots__ = ("began", "cut", "data", "timeout")

    def __init__(self, began: float) -> None:
        self.began = began
        self.data = bytearray()
        self.cut = False
        self.timeout = asyncio.timeout(None)

    def cut_off(self) -> None:
        """Free its memory now, and end its reading with the loop's next turn."""
        self.data = bytearray()
        self.cut = True
        self.timeout.reschedule(0)
