"""Decide which contract migrations a migrator brings that the ledger lacks, and which pods they would break. Pure.

Names that sort (native ledger, Knex, ...) and numbers show which of two revisions is older. Where they do not (Alembic,
Django), a pod's own list of ancestors shows it, else the positions of both revisions in the ledger.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from migrations.core.contract import MAX_CONTRACTS_TEXT, Contract, ContractError, parse_contracts
from migrations.core.ledger import History, Ledger
from migrations.core.revision import Revision, canonical
from migrations.dialects.catalogue import DIALECTS
from webhook.api.objects import Pod
from webhook.core.contract_state import Brought
from webhook.core.gate import Gate
from webhook.core.requirement import Requirement

CONTRACT = "ledgergate.dev/contract"
PHASE = "ledgergate.dev/phase"
_EXPAND = "expand"
_SHOWN = 200  # characters of an invalid list that are kept for a message


def read_brought(pod: Pod, label: str | None = None) -> Brought:
    """Read which contract migrations a migrator pod brings.

    Args:
        label: the label ``dev.ledgergate.contract`` of its image, which overrides the annotation; None where it is not
            known.
    """
    text = pod.annotations.get(CONTRACT, "") if label is None else label
    expand_only = pod.annotations.get(PHASE, "").strip() == _EXPAND
    contracts = _parse(text[: MAX_CONTRACTS_TEXT + 1])
    invalid = text[:_SHOWN] if contracts is None else None
    return Brought(contracts or (), invalid, expand_only, pod.metadata.uid)


@lru_cache(maxsize=256)
def _parse(text: str) -> tuple[Contract, ...] | None:
    try:
        found = parse_contracts(text)
    except ContractError:
        return None
    return tuple(Contract(canonical(each.revision), canonical(each.compatible_from)) for each in found)


def expects_less(gate: Gate, required: Requirement, boundary: str, ledger: Ledger | None) -> bool | None:
    """Return whether a pod expects a revision older than the boundary; None where their order is not known.

    Args:
        boundary: the revision to compare with.
        ledger: what is known of the ledger, for tools whose names have no order.
    """
    if required.expected is None or gate.dialect not in DIALECTS:
        return None
    expected, dialect = required.expected.name, DIALECTS[gate.dialect]
    key, sort_key = dialect.versioning.key, dialect.versioning.sort_key
    if key(expected) == key(boundary):
        return False
    if dialect.history is History.HEADS:
        if required.ancestors is not None:
            # Only an ancestor of the expected revision is known to be older. Any other boundary counts as newer.
            return key(boundary) not in map(key, required.ancestors)
        return _ran_before(ledger, expected, boundary)
    mine, other = sort_key(expected), sort_key(boundary)  # each begins with the name's numbers, empty if it has none
    if dialect.history is History.EXECUTION and not (mine[0] and other[0]):
        return _ran_before(ledger, expected, boundary)
    return mine < other


def _ran_before(ledger: Ledger | None, one: str, other: str) -> bool | None:
    """Return whether one revision was applied before another; None where they were not both applied."""
    if ledger is None or not (ledger.contains(one) and ledger.contains(other)):
        return None
    return ledger.count_newer(one) > ledger.count_newer(other)


def lacking(gate: Gate, required: Requirement, ledger: Ledger | None) -> tuple[Contract, ...]:
    """Return the contract migrations that a migrator brings and that the ledger is not known to have, oldest first.

    Under ``phase: expand`` those that are newer than what its image needs are left out: it stops before them.
    """
    return tuple(
        contract
        for contract in required.brings.contracts
        if not _is_applied(ledger, contract.revision) and not _is_left_out(gate, required, contract, ledger)
    )


def _is_applied(ledger: Ledger | None, revision: str) -> bool:
    # Admission knows only the newest part of a ledger. A revision that may be in the rest counts as not applied: the
    # migrator is then held, and the controller decides.
    return ledger is not None and ledger.can_tell(Revision(revision)) and ledger.contains(revision)


def _is_left_out(gate: Gate, required: Requirement, contract: Contract, ledger: Ledger | None) -> bool:
    """Return whether a migrator with ``phase: expand`` stops before this contract migration.

    It does where the contract migration is newer than the revision that its image needs. Without a declared revision
    that is not known, and nothing is left out.
    """
    return required.brings.expand_only and expects_less(gate, required, contract.revision, ledger) is True


def boundary_of(gate: Gate, contracts: Sequence[Contract]) -> str:
    """Return the oldest revision whose images can still run after these contract migrations (at least one)."""
    dialect = DIALECTS.get(gate.dialect)
    if dialect is None or dialect.history in {History.HEADS, History.EXECUTION}:
        return contracts[-1].compatible_from  # without an order of names, the newest migration decides
    return max((contract.compatible_from for contract in contracts), key=dialect.versioning.sort_key)


def needs_old_schema(gate: Gate, required: Requirement, contracts: Iterable[Contract], ledger: Ledger | None) -> bool:
    """Return whether these contract migrations may break a living pod; True also where the order is not known."""
    if required.expected is None:
        return False
    return any(expects_less(gate, required, contract.compatible_from, ledger) is not False for contract in contracts)


def barrier_for(gate: Gate, required: Requirement, ledger: Ledger) -> Contract | None:
    """Return an applied contract migration with which a pod's image cannot run, if any.

    The native ledger records its contract migrations; ``spec.contracts`` names those of other tools. The status
    remembers the ones that ``spec.contracts`` has named and those that a released migrator has brought, for as long as
    the ledger has them. Where only the newest part of the ledger is known, one that may be in the rest counts as
    applied: it is then an old one.
    """
    if required.expected is None:
        return None
    recorded = ledger.incompatible_contract_for(required.expected.name)
    if recorded is not None:
        return Contract(recorded.revision, recorded.compatible_from or "")
    for contract in reversed((*gate.former_contracts, *gate.contracts)):
        applied = ledger.contains(contract.revision) or not ledger.can_tell(Revision(contract.revision))
        if applied and expects_less(gate, required, contract.compatible_from, ledger) is True:
            return contract
    return None


def is_shut_out(gate: Gate, required: Requirement, ledger: Ledger | None) -> bool:
    """Return whether a contract migration that runs now, or is about to, shuts a pod out."""
    step = gate.contracting
    if step is None or (step.uid and step.uid == required.brings.uid):  # nothing runs, or the pod is the migrator
        return False
    return expects_less(gate, required, step.compatible_from, ledger) is True


def is_announced_against(gate: Gate, required: Requirement, ledger: Ledger | None) -> bool:
    """Return whether a held migrator waits for pods such as this one to end; the controller then decides about the pod.

    Admission runs in several processes. If they admitted older pods, one could start just when the controller, which
    has counted the living pods, releases the migrator. The controller is one process and makes both decisions.
    """
    waiting = gate.contract_waiting
    return waiting is not None and expects_less(gate, required, waiting.step.compatible_from, ledger) is not False
