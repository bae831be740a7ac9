"""What a guarded namespace should do: a model small enough to be seen to be right.

A world is what was asked for, at one moment: gates, ledgers, Secrets and what is broken. The product learns of a change
some time after it began to be made, so for a while either world may be followed; the chronicle knows which those are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto


class Claim(Enum):
    """What a world says of a pod that is held."""

    WAIT = auto()
    """It must not run."""
    RUN = auto()
    """It must run, soon."""
    FREE = auto()
    """No gate selects it: it may run at once, and must after the grace that a late gate gets."""


@dataclass(frozen=True, slots=True)
class ModelGate:
    """A LedgerGate.

    Attributes:
        group: It selects the pods of this label.
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
        """Whether it lets every pod run, whatever its ledger says."""
        return self.bypassed or self.mode == "Audit" or self.on_behind == "Warn"


@dataclass(frozen=True, slots=True)
class World:
    """Everything that decides.

    Attributes:
        gates: By name.
        secrets: Which database each Secret leads to.
        levels: How many of the revisions each database's ledger has.
        down: What does not run: databases, `webhook`, `controller`.
    """

    gates: Mapping[str, ModelGate] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, int] = field(default_factory=dict)
    down: frozenset[str] = frozenset()

    def claim(self, group: str, expects: int) -> Claim:
        """Say what is to become of a pod that expects the first so many revisions."""
        selecting = [gate for gate in self.gates.values() if gate.group == group]
        if not selecting:
            return Claim.FREE
        good = all(gate.lenient or self.levels[self.secrets[gate.secret]] >= expects for gate in selecting)
        return Claim.RUN if good else Claim.WAIT

    def denies(self, group: str, expects: int) -> bool:
        """Tell whether such a pod may be refused."""
        selecting = (gate for gate in self.gates.values() if gate.group == group)
        return self.claim(group, expects) is Claim.WAIT and any(gate.on_behind == "Deny" for gate in selecting)

    def blind(self, group: str) -> bool:
        """Tell whether a good pod may be held all the same: nobody acts, or a ledger cannot be read."""
        read = {self.secrets[gate.secret] for gate in self.gates.values() if gate.group == group}
        return "controller" in self.down or not read.isdisjoint(self.down)


@dataclass(frozen=True, slots=True)
class _Chapter:
    began: float
    settled: float
    world: World


class Chronicle:
    """Every world there was, in order.

    Args:
        world: The first.
    """

    def __init__(self, world: World, now: float) -> None:
        self._chapters = [_Chapter(now, now, world)]

    @property
    def world(self) -> World:
        """The world as it is asked for now."""
        return self._chapters[-1].world

    def turn(self, world: World, began: float, settled: float) -> None:
        """Go on to another world.

        Args:
            began: When the request that asked for it was sent.
            settled: When it was answered.
        """
        self._chapters.append(_Chapter(began, settled, world))

    def possible(self, at: float, lag: float) -> Sequence[World]:
        """Give the worlds that may be followed at a moment by one who is up to `lag` seconds behind."""
        found = []
        for index, chapter in enumerate(self._chapters):
            following = self._chapters[index + 1] if index + 1 < len(self._chapters) else None
            if chapter.began <= at and (following is None or at <= following.settled + lag):
                found.append(chapter.world)
        return found

    def since(self, group: str, expects: int, claims: frozenset[Claim]) -> float | None:
        """Give since when, without a break, a pod's claim is one of these and nothing hinders; None where it is not."""
        start = None
        for chapter in reversed(self._chapters):
            if chapter.world.blind(group) or chapter.world.claim(group, expects) not in claims:
                break
            start = chapter.settled
        return start
