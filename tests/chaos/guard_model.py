"""A model of what must happen to the pods of a guarded namespace.

A World is the requested state at one moment: gates, ledgers, Secrets and outages. ledgergate learns of a change some
time after the request, so for a while it may follow the state before or after it; the Chronicle knows both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto


class Claim(Enum):
    """What a World requires of a pod."""

    WAIT = auto()
    """It must not run."""
    RUN = auto()
    """It must run, soon."""
    FREE = auto()
    """No gate selects it: it may run at once, and must run after the time that it waits for a late gate."""


@dataclass(frozen=True, slots=True)
class ModelGate:
    """A LedgerGate.

    Attributes:
        group: Value of the label `group` of the pods that it selects.
        secret: Name of its Secret.
        on_behind: `Hold`, `Deny` or `Warn`.
        bypassed: Whether its bypass is in force.
    """

    group: str
    secret: str
    mode: str = "Enforce"
    on_behind: str = "Hold"
    bypassed: bool = False

    @property
    def lenient(self) -> bool:
        """Whether it lets every pod run, whatever its ledger has."""
        return self.bypassed or self.mode == "Audit" or self.on_behind == "Warn"


@dataclass(frozen=True, slots=True)
class World:
    """The requested state.

    Attributes:
        gates: The gates by name.
        secrets: The database of each Secret.
        levels: How many of the revisions each database's ledger has.
        down: The databases and processes (`webhook`, `controller`) that do not run.
    """

    gates: Mapping[str, ModelGate] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, int] = field(default_factory=dict)
    down: frozenset[str] = frozenset()

    def claim(self, group: str, expects: int) -> Claim:
        """Return what is required of a pod that expects the first `expects` revisions."""
        selecting = [gate for gate in self.gates.values() if gate.group == group]
        if not selecting:
            return Claim.FREE
        good = all(gate.lenient or self.levels[self.secrets[gate.secret]] >= expects for gate in selecting)
        return Claim.RUN if good else Claim.WAIT

    def denies(self, group: str, expects: int) -> bool:
        """Return whether such a pod may be refused."""
        selecting = (gate for gate in self.gates.values() if gate.group == group)
        return self.claim(group, expects) is Claim.WAIT and any(gate.on_behind == "Deny" for gate in selecting)

    def blind(self, group: str) -> bool:
        """Return whether a good pod may be held nevertheless: no controller runs, or a ledger cannot be read."""
        read = {self.secrets[gate.secret] for gate in self.gates.values() if gate.group == group}
        return "controller" in self.down or not read.isdisjoint(self.down)


@dataclass(frozen=True, slots=True)
class _Chapter:
    began: float
    answered: float
    world: World


class Chronicle:
    """The sequence of Worlds.

    Args:
        world: The first one.
        now: When it begins, in Unix time.
    """

    def __init__(self, world: World, now: float) -> None:
        self._chapters = [_Chapter(now, now, world)]

    @property
    def world(self) -> World:
        """The newest World."""
        return self._chapters[-1].world

    def turn(self, world: World, began: float, answered: float) -> None:
        """Append a World.

        Args:
            world: The new state.
            began: When the request for it was sent.
            answered: When the request was answered.
        """
        self._chapters.append(_Chapter(began, answered, world))

    def possible(self, at: float, lag: float) -> Sequence[World]:
        """Return the Worlds that a process may follow at a time if it is up to `lag` seconds behind."""
        found = []
        for index, chapter in enumerate(self._chapters):
            following = self._chapters[index + 1] if index + 1 < len(self._chapters) else None
            if chapter.began <= at and (following is None or at <= following.answered + lag):
                found.append(chapter.world)
        return found

    def since(self, group: str, expects: int, claims: frozenset[Claim]) -> float | None:
        """Return since when a pod's claim has been one of `claims` without an outage; None if it is not now."""
        start = None
        for chapter in reversed(self._chapters):
            if chapter.world.blind(group) or chapter.world.claim(group, expects) not in claims:
                break
            start = chapter.answered
        return start
