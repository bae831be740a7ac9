"""Whether a controller leads, as the renewals of its Lease show: without one, no status is kept up to date."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from webhook.api.lease import Lease
from webhook.kube.errors import ClusterError
from webhook.kube.reflector import Feed, Reflector
from webhook.telemetry import log_event

DEAD_AFTER_SECONDS = 15.0
"""Time since the last renewal that was seen. A leader renews once a second, and its successor takes over within 5 s."""


class LeaseApi(Protocol):
    """Where the Lease is watched."""

    def lease(self, namespace: str, name: str) -> Feed[Lease]:
        """Return the feed of one Lease."""


class LeaderWatch:
    """The controllers' Lease, followed.

    The time in the Lease is by another machine's clock, so it is only compared with itself: what counts is when this
    process saw it change, as in client-go's leader election. A process that has just started counts from its start.

    After a time without a leader, a ledger's status is current only if the new leader has read the ledger. Two times
    show it, both by the new leader's clock: when it acquired the Lease, and when it read the ledger (in the status).

    Args:
        lease: namespace and name.
        clock: seconds of a clock that never jumps.
    """

    def __init__(self, api: LeaseApi, lease: tuple[str, str], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._renewed_at = clock()
        self._acquired: str | None = None
        self._valid_since: datetime | None = None
        self._reflector = Reflector(api.lease(*lease), self._changed, on_failure=_log_failure)

    async def run(self) -> None:
        """Follow the Lease until cancelled."""
        await self._reflector.run()

    @property
    def leads(self) -> bool:
        """Whether a controller leads, and so keeps every status up to date."""
        return self._clock() - self._renewed_at < DEAD_AFTER_SECONDS

    def vouches_for(self, read_at: datetime | None) -> bool:
        """Return whether a reading is current.

        Args:
            read_at: when the ledger was read, to the second; None where that is not known.
        """
        if not self.leads:
            return False
        return self._valid_since is None or (read_at is not None and read_at >= self._valid_since)

    def _changed(self, old: Lease | None, new: Lease | None) -> None:
        if new is None or not new.spec.holder_identity:
            return  # given up, not renewed: the next leader has until DEAD_AFTER_SECONDS to take over
        if old is not None and old.spec == new.spec:
            return
        # Only another leader makes earlier readings stale: the same one, not seen for a while, has gone on reading.
        if not self.leads and self._acquired not in {None, new.spec.acquire_time}:
            self._valid_since = _time(new.spec.acquire_time)
        self._acquired = new.spec.acquire_time
        self._renewed_at = self._clock()


def _time(text: str | None) -> datetime | None:
    try:
        # To the second, as the times in a status are.
        return datetime.fromisoformat(text).replace(microsecond=0) if text else None
    except ValueError:
        return None


def _log_failure(failure: ClusterError | None) -> None:
    if failure is not None:
        log_event("lease.unreadable", error=str(failure))
