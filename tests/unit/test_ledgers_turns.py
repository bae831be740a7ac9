"""Turns at a server: no more than its places at a time, and every database gets its turn."""

import asyncio
import random
from collections.abc import Callable

import pytest

from webhook.ledgers import turns as module
from webhook.ledgers.turns import Turn, Turns


def turn(namespace: str = "a", *, lasting: bool = False, urgent: bool = False) -> Turn:
    return Turn(namespace, lasting, urgent, asyncio.Event())


async def hold(turns: Turns, mine: Turn, taken: Callable[[], None] = lambda: None) -> None:
    """Hold a place until it should be given up."""
    async with turns.take("server", mine):
        taken()
        while not mine.over:
            mine.wake.clear()
            await mine.wake.wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_there_are_never_more_than_the_places() -> None:
    """Short looks and lasting sessions share the places; of ten, two are reserved for looks."""
    turns = Turns(10)
    tasks = [asyncio.create_task(hold(turns, turn(f"n{number}", lasting=True))) for number in range(20)]
    await settle()
    assert turns.held("server") == 8
    tasks += [asyncio.create_task(hold(turns, turn("look"))) for _ in range(5)]
    await settle()
    assert turns.held("server") == 10
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert turns.held("server") == 0


async def test_a_waiting_turn_gets_a_place_after_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one place and three databases, each of which would keep it, every one gets its turn."""
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.02)
    turns = Turns(1)
    order: list[int] = []
    tasks = [
        asyncio.create_task(hold(turns, turn("a", lasting=True, urgent=True), lambda n=number: order.append(n)))  # type: ignore[misc]
        for number in range(3)
    ]
    async with asyncio.timeout(30):
        while len(order) < 3:  # noqa: ASYNC110 - the order is a list, not an event
            await asyncio.sleep(0.005)
    assert order == [0, 1, 2]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_urgent_turns_go_before_idle_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session for which no pod waits gives way at once, before its slice ends; urgent turns go to the front."""
    monkeypatch.setattr(module, "SLICE_SECONDS", 3600.0)
    turns = Turns(5)
    idle = [turn(f"n{number}", lasting=True) for number in range(20)]
    tasks = [asyncio.create_task(hold(turns, each)) for each in idle]
    await settle()
    assert turns.held("server") == 4
    assert not turns.has_room("server")
    reached = asyncio.Event()
    tasks.append(asyncio.create_task(hold(turns, turn("late", lasting=True, urgent=True), reached.set)))
    async with asyncio.timeout(30):
        await reached.wait()
    assert sum(each.over for each in idle) == 1
    waiting = idle[-1]
    waiting.set_urgent(True)
    await settle()
    assert waiting in turns._servers["server"].held
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_session_is_kept_while_no_other_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session whose slice is over goes on while no other turn waits."""
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.0)
    turns, mine = Turns(2), turn(lasting=True)
    task = asyncio.create_task(hold(turns, mine))
    await settle()
    turns._serve("server")
    assert not mine.over
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_tenant_with_many_databases_does_not_delay_one_with_few() -> None:
    """The free place goes to the namespace that has the fewest, however many of another came before."""
    turns = Turns(2)
    order: list[str] = []

    async def look(namespace: str, gate: asyncio.Event) -> None:
        async with turns.take("server", turn(namespace)):
            order.append(namespace)
            await gate.wait()

    first, rest = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(look("many", first if number == 0 else rest)) for number in range(10)]
    tasks.append(asyncio.create_task(look("few", rest)))
    await settle()
    first.set()
    await settle()
    assert order == ["many", "many", "few"]
    rest.set()
    await asyncio.gather(*tasks)


async def test_a_server_without_room_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a refusal no session begins for a while, and the sessions for which no pod waits are given up."""
    monkeypatch.setattr(module, "FIRST_CROWDED", 0.1)
    turns = Turns(10)
    idle, urgent = turn(lasting=True), turn(lasting=True, urgent=True)
    tasks = [asyncio.create_task(hold(turns, mine)) for mine in (idle, urgent)]
    await settle()
    clock = asyncio.get_running_loop().time
    began = clock()
    turns.refused("server")
    assert (idle.over, urgent.over) == (True, False)
    async with turns.take("server", turn("b")):
        assert clock() - began > 0.09
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("seed", range(40))
async def test_places_are_never_lost(seed: int) -> None:
    """Whatever turns begin, end or are cancelled, no more than the places are taken, and all are free at the end."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    limit = chance.randint(1, 12)
    turns = Turns(limit)
    most = 0

    async def visit(namespace: str, lasting: bool) -> None:
        nonlocal most
        async with turns.take("server", turn(namespace, lasting=lasting)):
            most = max(most, turns.held("server"))
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)

    wanted = [(chance.choice("abc"), chance.random() < 0.5) for _ in range(chance.randrange(40))]
    tasks = [asyncio.create_task(visit(*each)) for each in wanted]
    await asyncio.sleep(0)
    for task in tasks:
        if chance.random() < 0.2:
            task.cancel()
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert most <= limit
    assert turns.held("server") == 0
