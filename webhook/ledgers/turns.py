"""Turns at a database server: limit ledgergate's sessions there, and share them between namespaces.

A server has few sessions to give, and they belong to the applications. So each server has a fixed number of places;
a session waits in line for one, and a session that has held one for long gives it up when others wait.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

SESSIONS_PER_SERVER = 10
SLICE_SECONDS = 2.0
"""How long a session is kept while others wait for its place."""
FIRST_CROWDED, LONGEST_CROWDED = 1.0, 30.0
"""Seconds without a new session on a server that had no room for one (SQLSTATE 53300); doubled with each refusal."""


@dataclass(eq=False)
class Turn:
    """One place at a server.

    Args:
        namespace: whose it is.
        lasting: it is for a session that follows a database, and not for a short look.
        urgent: pods wait.
        wake: set when the place should be given up.
        over: the place should be given up.
    """

    namespace: str
    lasting: bool
    urgent: bool
    wake: asyncio.Event
    since: float = 0.0
    over: bool = False
    moved: Callable[[], None] = lambda: None
    """Called when its place in the line may have changed; set by `Turns.take`."""

    def set_urgent(self, urgent: bool) -> None:
        """Note whether pods wait, while this turn waits for a place or holds one."""
        if urgent is not self.urgent:
            self.urgent = urgent
            self.moved()

    def end(self) -> None:
        """Ask the holder to give the place up."""
        self.over = True
        self.wake.set()


@dataclass(slots=True)
class _Server:
    held: list[Turn] = field(default_factory=list)
    waiting: list[tuple[Turn, asyncio.Future[None]]] = field(default_factory=list)
    closed_until: float = 0.0
    refusals: int = 0
    timer: asyncio.TimerHandle | None = None


class Turns:
    """The turns at each server.

    Args:
        limit: places at each server. One in five, but at least one, is for short looks only, so that sessions that last
            never keep them waiting; with a single place all take turns.
    """

    def __init__(self, limit: int = SESSIONS_PER_SERVER) -> None:
        self._limit = limit
        self._lasting = limit if limit == 1 else limit - max(1, limit // 5)
        self._servers: defaultdict[str, _Server] = defaultdict(_Server)

    @asynccontextmanager
    async def take(self, server: str, turn: Turn) -> AsyncIterator[None]:
        """Wait for a place at a server, and hold it during the block."""
        place = self._servers[server]
        waiter = asyncio.get_running_loop().create_future()
        place.waiting.append((turn, waiter))
        turn.moved = lambda: self._serve(server)
        self._serve(server)
        try:
            await waiter
            yield
        finally:
            turn.moved = lambda: None
            place.waiting = [entry for entry in place.waiting if entry[0] is not turn]
            if turn in place.held:
                place.held.remove(turn)
            self._serve(server)

    def refused(self, server: str) -> None:
        """Note that a server had no room: open no session for a while, and give up those for which no pod waits."""
        place = self._servers[server]
        pause = min(FIRST_CROWDED * 2.0**place.refusals, LONGEST_CROWDED)
        if _now() >= place.closed_until:  # several that are refused at the same time count once
            place.refusals += 1
            place.closed_until = _now() + pause
        for turn in place.held:
            if turn.lasting and not turn.urgent:
                turn.end()

    def accepted(self, server: str) -> None:
        """Note that a server has opened a session."""
        place = self._servers[server]
        place.refusals = 0

    def has_room(self, server: str) -> bool:
        """Return whether a session could last at a server without taking another one's place."""
        place = self._servers.get(server)
        return place is None or (not place.waiting and sum(turn.lasting for turn in place.held) < self._lasting)

    def held(self, server: str) -> int:
        """Return how many places are held at a server."""
        return len(self._servers[server].held) if server in self._servers else 0

    def _serve(self, server: str) -> None:
        """Assign free places: first to turns for which pods wait, then to the namespaces that hold the fewest."""
        place = self._servers[server]
        now = _now()
        if place.timer is not None:
            place.timer.cancel()
            place.timer = None
        while now >= place.closed_until and (index := self._next(place)) is not None:
            turn, waiter = place.waiting.pop(index)
            if waiter.done():
                continue  # cancelled meanwhile
            turn.since = now
            place.held.append(turn)
            waiter.set_result(None)
        if place.waiting:
            again = place.closed_until if now < place.closed_until else self._make_room(place, now)
            place.timer = asyncio.get_running_loop().call_at(max(again, now + 0.01), self._serve, server)
        elif not place.held and now >= place.closed_until:
            del self._servers[server]

    def _next(self, place: _Server) -> int | None:
        if len(place.held) >= self._limit:
            return None
        held = Counter(turn.namespace for turn in place.held)
        lasting = sum(turn.lasting for turn in place.held)
        admitted = [
            (not turn.urgent, held[turn.namespace], index)
            for index, (turn, _) in enumerate(place.waiting)
            if not turn.lasting or lasting < self._lasting
        ]
        return min(admitted)[-1] if admitted else None

    def _make_room(self, place: _Server, now: float) -> float:
        """Ask sessions to give up their places to the turns that wait; return when to look again.

        As many as there are turns that wait are asked once they have had a slice. As many as there are urgent turns
        that wait are asked at once, if no pod waits for them.
        """
        lasting = sorted((turn for turn in place.held if turn.lasting), key=lambda turn: (turn.urgent, turn.since))
        urgent = sum(turn.urgent for turn, _ in place.waiting)
        idle = [turn for turn in lasting if not turn.urgent]
        over = [turn for turn in lasting if now - turn.since >= SLICE_SECONDS]
        for turn in {*idle[:urgent], *over[: len(place.waiting)]}:
            turn.end()
        coming = [turn.since + SLICE_SECONDS for turn in lasting if now - turn.since < SLICE_SECONDS]
        return min(coming, default=now + SLICE_SECONDS)


def _now() -> float:
    return asyncio.get_running_loop().time()
