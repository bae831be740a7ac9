"""When a database is visited, by a clock that the test moves."""

from webhook.ledgers.schedule import CHANGE_SECONDS, FOLLOW_SECONDS, HOSTILE_RETRY, POD_SECONDS, Schedule


def a_schedule() -> Schedule:
    return Schedule(jitter=lambda: 0.5)


def test_at_rest_a_look_a_minute() -> None:
    """After a look the next one is due after the interval, and no session lasts."""
    schedule = a_schedule()
    assert schedule.due <= 0
    schedule.ended(100.0)
    assert schedule.due == 160.0
    schedule.interval = 600.0
    schedule.ended(160.0)
    assert schedule.due == 760.0
    assert not schedule.follows(161.0)


def test_looks_spread() -> None:
    """Looks are up to a tenth of the interval early or late, so that a thousand databases are not visited at once."""
    for random, due in ((0.0, 54.0), (1.0, 66.0)):
        schedule = Schedule(jitter=lambda random=random: random)  # type: ignore[misc]
        schedule.ended(0.0)
        assert schedule.due == due


def test_what_makes_a_session_last() -> None:
    """A session lasts while pods wait, and for a while after a pod was created or the ledger changed."""
    schedule = a_schedule()
    schedule.pod_created(1000.0)
    assert schedule.follows(1000.0 + POD_SECONDS - 1)
    assert not schedule.follows(1000.0 + POD_SECONDS)
    schedule.changed(5000.0)
    assert schedule.follows(5000.0 + CHANGE_SECONDS - 1)
    assert not schedule.follows(5000.0 + CHANGE_SECONDS)
    schedule.urgent = True
    schedule.ended(9000.0)
    assert schedule.follows(9000.0)
    assert schedule.due == 9000.0 + FOLLOW_SECONDS
    schedule.rest(9000.0)
    assert schedule.due == 9060.0


def test_failures_back_off_to_the_interval() -> None:
    """The pauses grow to the interval, but not beyond a second while pods wait; a success resets them."""
    schedule = a_schedule()
    pauses = []
    for _ in range(12):
        schedule.failed(0.0)
        pauses.append(schedule.due)
    assert pauses == sorted(pauses)
    assert pauses[0] < 1
    assert 40 < pauses[-1] <= 60
    schedule.urgent = True
    schedule.failed(0.0)
    assert schedule.due <= 1.0
    schedule.answered()
    schedule.urgent = False
    schedule.failed(0.0)
    assert schedule.due < 1


def test_a_hostile_answer_is_not_retried_sooner_for_pods() -> None:
    """Waiting pods do not shorten the pause after an unreadable answer; an edit of the gate ends it."""
    schedule = a_schedule()
    schedule.urgent = True
    for _ in range(20):
        schedule.failed(0.0, hostile=True)
    due = schedule.due
    assert HOSTILE_RETRY / 2 < due <= HOSTILE_RETRY
    schedule.hurry(1.0)
    assert schedule.due == due
    schedule.edited(2.0)
    assert schedule.due == 2.0
    schedule.failed(2.0, penalty=500.0)
    assert schedule.due == 502.0
