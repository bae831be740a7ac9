"""Run a refresh again and again: what keeps every certificate here fresh."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from certs.pki import CertificateError

PERIOD = timedelta(minutes=1)
"""Time between two refreshes. One long sleep until the expiry would be wrong after the machine was suspended."""

RETRY = timedelta(seconds=1)
"""Time until the next refresh after one that failed, or that found nothing to serve."""


async def refresh_forever(
    refresh: Callable[[], Awaitable[bool]], *, period: timedelta, failed: Callable[[CertificateError], None]
) -> None:
    """Refresh until cancelled.

    Args:
        refresh: Does it once; returns whether there is a usable certificate now.
        period: Time between two refreshes; after a failure, or while there is no certificate, at most `RETRY`.
        failed: Called with each failure; the refreshing goes on.
    """
    while True:
        try:
            usable = await refresh()
        except CertificateError as error:
            failed(error)
            usable = False
        await asyncio.sleep((period if usable else min(RETRY, period)).total_seconds())
