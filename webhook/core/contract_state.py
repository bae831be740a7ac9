"""Contract migrations that wait or run under a gate, as its status records them, and what a pod says of its own. Pure.

A contract migration breaks images that expect less than its COMPATIBLE_FROM. Two fields of a LedgerGate's status are
about it. ``contractWaiting`` announces a migrator that is held: admission then leaves pods that expect less to the
controller, which alone decides about them. ``contracting`` is written before the migrator is released: such pods are
refused until it has ended, or the ledger itself shows the barrier.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrations.core.contract import Contract

LONGEST_NAME = 512
"""Characters of a name that a status keeps: no file system has longer ones, and a ledger may hold anything."""
GROUPS = 10
"""Groups of pods that a status lists."""


@dataclass(frozen=True, slots=True)
class ContractStep:
    """One migrator pod that brings a contract migration.

    Args:
        revision: the newest contract migration that it brings and the ledger lacks.
        compatible_from: the oldest revision whose images can still run after all that it brings.
        pod: the pod's name.
        uid: the pod's uid.
        since: when this began (RFC 3339).
    """

    revision: str
    compatible_from: str
    pod: str = ""
    uid: str = ""
    since: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the status."""
        return {
            "revision": cut_name(self.revision),
            "compatibleFrom": cut_name(self.compatible_from),
            "pod": self.pod,
            "uid": self.uid,
            "since": self.since,
        }


@dataclass(frozen=True, slots=True)
class PodGroup:
    """Living pods of one owner that expect one revision.

    Args:
        owner: as kubectl prints it, ``deployment/gateway``; empty for pods without an owner.
        expected: the revision; empty where the pods declare none.
        count: how many pods.
        needed: whether the migrator has to wait for them.
    """

    owner: str
    expected: str
    count: int
    needed: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return an entry of ``status.contractWaiting.pods``."""
        return {"owner": self.owner, "expected": cut_name(self.expected), "count": self.count, "needed": self.needed}


@dataclass(frozen=True, slots=True)
class ContractWaiting:
    """A migrator that is held, and the pods that it waits for.

    Args:
        groups: living pods under the gate by owner and expected revision, those that are waited for first.
    """

    step: ContractStep
    groups: tuple[PodGroup, ...] = ()

    @property
    def needed(self) -> int:
        """How many pods the migrator waits for."""
        return sum(group.count for group in self.groups if group.needed)

    def as_json(self, oldest: str) -> Mapping[str, Any]:
        """Return ``status.contractWaiting``.

        Args:
            oldest: the oldest revision that living pods expect; empty where none declares one.
        """
        groups = [group.as_json() for group in self.groups[:GROUPS]]
        return {**self.step.as_json(), "oldest": cut_name(oldest), "waitingFor": self.needed, "pods": groups}


@dataclass(frozen=True, slots=True)
class Brought:
    """What a migrator pod brings, as it or its image says.

    Args:
        contracts: the newest contract migrations of its directory, oldest first.
        invalid: the beginning of the list, where it cannot be parsed; None otherwise.
        expand_only: it stops before the contract migrations at the end of its directory.
        uid: the pod's uid; empty where it has none yet.
    """

    contracts: tuple[Contract, ...] = ()
    invalid: str | None = None
    expand_only: bool = False
    uid: str = ""


NOTHING = Brought()


def cut_name(name: str) -> str:
    """Return a name as a status keeps it, with an ellipsis where it is cut."""
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
