"""How often an owner is woken: once for each change, and then ever more seldom, as long as it is plainly stuck."""

from typing import Any

import msgspec

from webhook.api.owners import Owner, OwnerKind
from webhook.controller.owner_wakeup import WakeTrigger, _should_wake, _WakeBackoff

CHANGE, AGAIN, SWEEP = WakeTrigger.CHANGE, WakeTrigger.RECHECK, WakeTrigger.SWEEP
REFUSED = {"type": "ReplicaFailure", "status": "True", "message": 'webhook "deny.ledgergate.dev" denied the request'}


def replica_set(generation: int = 1, *, refused: bool = True) -> Owner:
    status: dict[str, Any] = {"conditions": [REFUSED] if refused else []}
    metadata = {"name": "a", "uid": "u", "generation": generation}
    return msgspec.convert({"metadata": metadata, "spec": {"replicas": 3}, "status": status}, Owner)


def woken(owner: Owner, *occasions: WakeTrigger, backoffs: dict[str, _WakeBackoff] | None = None) -> str:
    backoffs = {} if backoffs is None else backoffs
    return "".join("x" if _should_wake(OwnerKind.REPLICA_SET, owner, one, backoffs) else "." for one in occasions)


def test_a_change_wakes_once() -> None:
    """Fifty changes in a row, and the owner that is still short was told already."""
    assert woken(replica_set(), CHANGE, CHANGE, CHANGE) == "x.."
    assert woken(replica_set(refused=False), CHANGE, AGAIN, SWEEP, SWEEP) == "x..."


def test_one_that_was_refused_again_gets_a_second_try() -> None:
    """A webhook replica that learned of the change later than we has refused it: a second look finds that."""
    assert woken(replica_set(), CHANGE, AGAIN) == "xx"


def test_one_that_nobody_woke_is_found_by_the_sweep() -> None:
    """Refused while no webhook answered, or no controller led: and only what says so."""
    assert woken(replica_set(), SWEEP) == "x"
    assert woken(replica_set(refused=False), SWEEP) == "."


def test_one_that_stays_stuck_is_woken_ever_more_seldom() -> None:
    """After one, two, four, four ... sweeps: a webhook that is dead for an hour costs some hundred patches."""
    assert woken(replica_set(), *[SWEEP] * 16) == "xx.x...x...x...x"


def test_another_template_is_another_story() -> None:
    """A new generation of the owner is woken as if it had never been."""
    backoffs: dict[str, _WakeBackoff] = {}
    assert woken(replica_set(), CHANGE, backoffs=backoffs) == "x"
    assert woken(replica_set(generation=2), CHANGE, CHANGE, backoffs=backoffs) == "x."
