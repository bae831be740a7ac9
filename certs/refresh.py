"""The loop that keeps a certificate fresh."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

from certs.pki import CertificateError

PERIOD = timedelta(minutes=1)
"""Time between two refreshes. One sleep until the renewal is due would last too long where the machine is suspended."""

RETRY = timedelta(seconds=1)
"""Time to the next refresh after one that failed, or that left no usable certificate."""


async def refresh_forever(
    refresh: Callable[[], Awaitable[bool]],
    *,
    period: timedelta,
    on_failure: Callable[[CertificateError], None],
    changed: asyncio.Event | None = None,
) -> None:
    """Refresh until cancelled.

    Args:
        refresh: refreshes once and returns whether there is nothing left to do for now.
        period: time between two refreshes; after a failure, or where something is left to do, at most `RETRY`.
        on_failure: called with each failure; the loop goes on, whatever the failure is.
        changed: set when what the certificate is made from has changed; refreshes at once.
    """
    changed = changed or asyncio.Event()
    while True:
        changed.clear()
        try:
            settled = await refresh()
        except CertificateError as error:
            on_failure(error)
            settled = False
        except Exception as error:  # noqa: BLE001 - what a Secret contains is not foreseen in full, and must not end this
            on_failure(CertificateError(f"not foreseen: {type(error).__name__}: {error}"))
            settled = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((period if settled else min(RETRY, period)).total_seconds()):
                await changed.wait()
