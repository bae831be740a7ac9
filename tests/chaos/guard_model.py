"""What should happen to the pods of a guarded namespace: a model small enough to check by reading.

A world is what was asked for, at one moment: gates, ledgers, Secrets and what is broken. The product learns of a change
some time after it began, so for a while it may follow the world before or the one after; the chronicle knows which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import pairwise


class Claim(Enum):
    """What must happen to a held pod in a world."""

    WAIT = auto()
    """It must stay held."""
    RUN = auto()
    """It must be released soon."""
    EITHER = auto()
    """It may run or stay held: its gate goes on with the last reading, which the model does not know."""
    FREE = auto()
    """No gate selects it: it may be released at once, and must be once the wait for a late gate is over."""


STABLE, FRAGILE = "stable", "fragile"
"""The databases: one always runs, one is stopped now and then."""
EVIL, GONE = "evil", "gone"
"""Where else a Secret may lead: to a server that misbehaves, or nowhere, because the Secret does not exist."""

BEHAVIOURS = (
    "announces_2_gb",
    "answers_no_query",
    "answers_tls_with_silence",
    "answers_with_a_far_time",
    "asks_for_a_billion_iterations",
    "closes_at_once",
    "continues_sasl_first",
    "fails_without_end",
    "has_no_room",
    "is_ready_without_end",
    "notices_without_end",
    "says_nothing",
    "sends_a_byte_a_second",
    "sends_noise_without_end",
)
"""Behaviours of evil servers, without those that end a worker process: then a Secret is read alone, and seldom."""


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
        """Whether it lets every pod run, whatever its ledger holds."""
        return self.bypassed or self.mode == "Audit" or self.on_behind == "Warn"


@dataclass(frozen=True, slots=True)
class World:
    """Everything that decides about a pod.

    Attributes:
        gates: By name.
        secrets: Which database each Secret leads to; also `EVIL` or `GONE`.
        levels: How many of the revisions each database's ledger has.
        down: What is stopped: databases, `webhook`, `controller`, `API server`.
        recalled: The highest level of any ledger when a gate's Secret was lost, by gate: LastKnown allows no more.
    """

    gates: Mapping[str, ModelGate] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, int] = field(default_factory=dict)
    down: frozenset[str] = frozenset()
    recalled: Mapping[str, int] = field(default_factory=dict)

    def with_recalled(self, before: "World") -> "World":
        """Return this world with the level that each gate without a Secret recalls: as before, else the highest."""
        lost = {name: gate for name, gate in self.gates.items() if self.secrets[gate.secret] == GONE}
        highest = max((*before.levels.values(), *self.levels.values()))
        return replace(self, recalled={name: before.recalled.get(name, highest) for name in lost})

    def claim(self, group: str, expects: int) -> Claim:
        """Return what must happen to a pod that expects the first `expects` revisions."""
        if not any(gate.group == group for gate in self.gates.values()):
            return Claim.FREE
        claims = {self._claim(name, expects) for name, gate in self.gates.items() if gate.group == group}
        return next(claim for claim in (Claim.WAIT, Claim.EITHER, Claim.RUN) if claim in claims)

    def _claim(self, name: str, expects: int) -> Claim:
        """Return what one gate wants of a pod."""
        gate = self.gates[name]
        database = self.secrets[gate.secret]
        if gate.lenient:
            return Claim.RUN
        if database == GONE:
            recalled = max(self.recalled.get(name, 0), *self.levels.values())
            return Claim.EITHER if expects <= recalled else Claim.WAIT
        return Claim.RUN if self.levels.get(database, 0) >= expects else Claim.WAIT

    def denies(self, group: str, expects: int) -> bool:
        """Return whether a pod of this group that expects the first `expects` revisions may be refused."""
        selecting = (gate for gate in self.gates.values() if gate.group == group)
        may_wait = self.claim(group, expects) in {Claim.WAIT, Claim.EITHER}
        return may_wait and any(gate.on_behind == "Deny" for gate in selecting)

    def blind(self, group: str) -> bool:
        """Return whether a good pod may stay held: no controller runs, or a ledger cannot be read."""
        read = {self.secrets[gate.secret] for gate in self.gates.values() if gate.group == group}
        return not self.down.isdisjoint({"controller", "API server"}) or not read.isdisjoint(self.down)


@dataclass(frozen=True, slots=True)
class _Period:
    began: float
    settled: float
    world: World


class Chronicle:
    """Every world there was, in order.

    Args:
        world: The first.
    """

    def __init__(self, world: World, now: float) -> None:
        self._periods = [_Period(now, now, world)]

    @property
    def world(self) -> World:
        """The world as it is asked for now."""
        return self._periods[-1].world

    def turn(self, world: World, began: float, settled: float) -> None:
        """Add the next world.

        Args:
            began: When the request that asked for it was sent.
            settled: When it was answered.
        """
        self._periods.append(_Period(began, settled, world))

    def possible(self, at: float, lag: float) -> Sequence[World]:
        """Return the worlds that the product may follow at a moment if it is up to `lag` seconds behind.

        While no controller runs, admission knows of ledgers and Secrets only what the last controller has written.
        """
        found: list[World] = []
        written: list[World] = []
        for index, period in enumerate(self._periods):
            following = self._periods[index + 1] if index + 1 < len(self._periods) else None
            dead = "controller" in period.world.down
            if dead and "controller" not in self._periods[index - 1].world.down:
                written = [
                    known.world
                    for known, after in pairwise(self._periods[: index + 1])
                    if period.began <= after.settled + lag
                ]
            if period.began <= at and (following is None or at <= following.settled + lag):
                found.append(period.world)
                if dead:
                    found += [
                        replace(period.world, levels=each.levels, secrets=each.secrets, recalled=each.recalled)
                        for each in written
                    ]
        return found

    def since(self, group: str, expects: int, claims: frozenset[Claim]) -> float | None:
        """Return since when a pod's claim has been one of these and its release not hindered; None if it is not so."""
        start = None
        for period in reversed(self._periods):
            if period.world.blind(group) or period.world.claim(group, expects) not in claims:
                break
            start = period.settled
        return start
