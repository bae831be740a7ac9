"""Names are resolved in threads: slow ones of one tenant do not delay another's."""

import asyncio
import threading
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest

from migrations.reader.names import TENANT, THREADS_PER_TENANT, Names, ResolvingLoop


class Resolver:
    """Resolves names at once, but those that begin with `slow` only when released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked: list[str] = []

    def __call__(self, name: str, *_: Any) -> list[Any]:
        """Resolve a name."""
        self.asked.append(name)
        if name.startswith("slow"):
            self.released.wait(30)
        if name == "missing":
            raise OSError("no such name")
        return [name]


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    found = Resolver()
    yield found
    found.released.set()


def ask(names: Names, tenant: str, name: str) -> "asyncio.Task[list[Any]]":
    context = copy_context()
    context.run(TENANT.set, tenant)
    return asyncio.get_running_loop().create_task(names.resolve(name, 5432), context=context)


async def test_slow_names_of_one_tenant_delay_no_other(resolver: Resolver) -> None:
    """However many names of one tenant do not resolve, another's resolve at once."""
    names = Names(resolver)
    slow = [ask(names, "bad", f"slow-{number}") for number in range(20)]
    assert await asyncio.wait_for(ask(names, "good", "db"), 10) == ["db"]
    assert len([name for name in resolver.asked if name.startswith("slow")]) == THREADS_PER_TENANT
    resolver.released.set()
    assert await asyncio.wait_for(asyncio.gather(*slow), 10) == [[f"slow-{number}"] for number in range(20)]


async def test_a_name_is_resolved_once_at_a_time(resolver: Resolver) -> None:
    """A second request joins the first one's thread, and a request that is given up leaves no second thread."""
    names = Names(resolver)
    first = ask(names, "a", "slow")
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(names, "a", "slow"), 0.05)
    first.cancel()
    second = ask(names, "a", "slow")
    await asyncio.sleep(0)
    resolver.released.set()
    assert await asyncio.wait_for(second, 10) == ["slow"]
    assert resolver.asked == ["slow"]


async def test_a_failure_is_that_of_the_resolver(resolver: Resolver) -> None:
    """An error of `getaddrinfo` is raised as it is."""
    with pytest.raises(OSError, match="no such name"):
        await Names(resolver).resolve("missing", 5432)


def test_the_loop_resolves_with_it() -> None:
    """Every connection resolves its host through the event loop, and so through `Names`."""
    loop = ResolvingLoop()
    resolver = Resolver()
    try:
        loop.names = Names(lambda *question: resolver(*question)[1:])
        with pytest.raises(OSError, match="empty list"):
            loop.run_until_complete(loop.create_connection(asyncio.Protocol, "db.example", 5432))
        assert resolver.asked == ["db.example"]
    finally:
        loop.close()
