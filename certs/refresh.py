"""The loop that keeps a certificate fresh."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from certs.pki import CertificateError

PERIOD = timedelta(minutes=1)
"""Time between two refreshes. One sleep until the renewal is due would last too long where the machine is suspended."""

RETRY = timedelta(seconds=1)
"""Time to the next refresh after one that failed, or that left no usable certificate."""


async def refresh_forever(
    refresh: Callable[[], Awaitable[bool]], *, period: timedelta, on_failure: Callable[[CertificateError], None]
) -> None:
    """Refresh until cancelled.

    Args:
        refresh: refreshes once and returns whether there is a usable certificate.
        period: time between two refreshes; after a failure, or without a usable certificate, at most `RETRY`.
        on_failure: called with each failure; the loop goes on.
    """
    while True:
        try:
            usable = await refresh()
        except CertificateError as error:
            on_failure(error)
            usable = False
        await asyncio.sleep((period if usable else min(RETRY, period)).total_seconds())
