"""How often an owner is woken: once for each change, then with back-off while it stays stuck."""

from typing import Any

import msgspec

from webhook.api.owners import Owner, OwnerKind
from webhook.controller.owner_wakeup import WakeTrigger, _should_wake, _WakeBackoff

CHANGE, RECHECK, SWEEP = WakeTrigger.CHANGE, WakeTrigger.RECHECK, WakeTrigger.SWEEP
REFUSED = {"type": "ReplicaFailure", "status": "True", "message": 'webhook "deny.ledgergate.dev" denied the request'}


def replica_set(generation: int = 1, *, refused: bool = True) -> Owner:
    status: dict[str, Any] = {"conditions": [REFUSED] if refused else []}
    metadata = {"name": "a", "uid": "u", "generation": generation}
    return msgspec.convert({"metadata": metadata, "spec": {"replicas": 3}, "status": status}, Owner)


def woken(owner: Owner, *triggers: WakeTrigger, backoffs: dict[str, _WakeBackoff] | None = None) -> str:
    backoffs = {} if backoffs is None else backoffs
    return "".join(
        "x" if _should_wake(OwnerKind.REPLICA_SET, owner, trigger, backoffs) else "." for trigger in triggers
    )


def test_a_change_wakes_once() -> None:
    """Further changes do not wake an owner that is still short of pods."""
    assert woken(replica_set(), CHANGE, CHANGE, CHANGE) == "x.."
    assert woken(replica_set(refused=False), CHANGE, RECHECK, SWEEP, SWEEP) == "x..."


def test_an_owner_that_was_refused_again_is_woken_by_the_recheck() -> None:
    """A webhook replica that learned of the change later than the controller has refused its pods."""
    assert woken(replica_set(), CHANGE, RECHECK) == "xx"


def test_an_owner_that_no_change_woke_is_found_by_the_sweep() -> None:
    """Refused while no webhook answered, or no controller led; only an owner whose condition says so."""
    assert woken(replica_set(), SWEEP) == "x"
    assert woken(replica_set(refused=False), SWEEP) == "."


def test_an_owner_that_stays_stuck_is_woken_with_backoff() -> None:
    """After one, two, four, four ... sweeps: a webhook that is dead for an hour costs about a hundred patches."""
    assert woken(replica_set(), *[SWEEP] * 16) == "xx.x...x...x...x"


def test_a_new_generation_starts_anew() -> None:
    """An owner with a new template is woken without back-off."""
    backoffs: dict[str, _WakeBackoff] = {}
    assert woken(replica_set(), CHANGE, backoffs=backoffs) == "x"
    assert woken(replica_set(generation=2), CHANGE, CHANGE, backoffs=backoffs) == "x."
