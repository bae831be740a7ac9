"""The reflector's copy stays up to date through everything that can happen to a watch."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhook.api.objects import Metadata, Secret
from webhook.kube.errors import ClusterError, Expired, Forbidden, Unavailable
from webhook.kube.reflector import Change, ChangeKind, Listing, Reflector, Unreadable

QUICK = (0.001, 0.008)
Report = tuple[str | None, str | None]


class Store:
    """A collection in memory with versions and a history, as in etcd, which fails on demand."""

    def __init__(self) -> None:
        self.version = 10
        self.items: dict[str, Secret] = {}
        self.unreadable: dict[str, Unreadable] = {}
        self.events: list[Change[Secret]] = []
        self.compacted = 0
        self.lists = 0
        self.watched_from: list[str] = []
        self.refusals: list[ClusterError] = []
        self.breakage: ClusterError | None = None
        self._end = False
        self._news = asyncio.Event()

    def put(self, name: str, uid: str = "u") -> None:
        """Create or change an object."""
        kind = ChangeKind.MODIFIED if name in self.items else ChangeKind.ADDED
        self.version += 1
        metadata = Metadata(name=name, namespace="ns", uid=uid, resource_version=str(self.version))
        self.unreadable.pop(name, None)
        self.items[name] = Secret(metadata=metadata)
        self._tell(kind, self.items[name])

    def spoil(self, name: str) -> None:
        """Make an object unreadable, as another version of ledgergate may."""
        self.version += 1
        metadata = Metadata(name=name, namespace="ns", uid="u", resource_version=str(self.version))
        self.unreadable[name] = Unreadable(metadata, "strange")
        self.items.pop(name, None)
        self.events.append(Change(ChangeKind.MODIFIED, str(self.version), self.unreadable[name]))
        self._wake()

    def delete(self, name: str) -> None:
        """Delete an object."""
        self.version += 1
        known = self.items.pop(name, None) or self.unreadable.pop(name)
        self.events.append(Change(ChangeKind.DELETED, str(self.version), known))
        self._wake()

    def bookmark(self) -> None:
        """Increase the version without a change, as changes of other objects do."""
        self.version += 5
        self._tell(ChangeKind.BOOKMARK, None)

    def compact(self) -> None:
        """Drop the history, as etcd does every five minutes."""
        self.compacted = self.version
        self.events.clear()

    def cut(self, error: ClusterError | None = None) -> None:
        """End the current watch, with an error if one is given."""
        self._end, self.breakage = True, error
        self._wake()

    async def list_objects(self) -> Listing[Secret]:
        """List, or raise the next refusal."""
        self.lists += 1
        if self.refusals:
            raise self.refusals.pop(0)
        return [*self.items.values(), *self.unreadable.values()], str(self.version)

    async def watch(self, resource_version: str) -> AsyncIterator[Change[Secret]]:
        """Watch."""
        self.watched_from.append(resource_version)
        at = int(resource_version)
        while True:
            if at < self.compacted and not self._end:
                raise Expired("410: too old resource version")
            # A watch that ends in the same moment ends with what it knows: never with a change after one it has missed.
            known = self.events if at >= self.compacted else []
            for change in [found for found in known if int(found.resource_version) > at]:
                at = int(change.resource_version)
                yield change
            if self._end:
                self._end = False
                error, self.breakage = self.breakage, None
                if error is not None:
                    raise error
                return
            await self._news.wait()

    def _tell(self, kind: ChangeKind, found: Secret | None) -> None:
        self.events.append(Change(kind, str(self.version), found))
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Follower:
    """A reflector, and everything that it has reported."""

    def __init__(self, store: Store, retry: tuple[float, float] = QUICK) -> None:
        self.reported: list[Report] = []
        self.failures: list[ClusterError | None] = []
        self.unreadable: list[str] = []
        self.reflector = Reflector(
            store,
            self._changed,
            on_failure=self.failures.append,
            on_unreadable=lambda key: self.unreadable.append(key[1]),
            retry=retry,
        )

    def _changed(self, old: Secret | None, new: Secret | None) -> None:
        found = new or old
        assert found is not None
        assert self.reflector.objects.get(found.metadata.key) is new, "reported before the copy has it"
        self.reported.append((_word(old), _word(new)))

    @property
    def copy(self) -> dict[str, Secret]:
        """The copy, by name."""
        return {key[1]: item for key, item in self.reflector.objects.items()}


def _word(found: Secret | None) -> str | None:
    return None if found is None else f"{found.metadata.name}@{found.metadata.resource_version}"


async def eventually(probe: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(30):
        while not probe():  # noqa: ASYNC110 - callbacks of the reflector set no event
            await asyncio.sleep(0.001)


def _more(found: list[str], than: int) -> bool:
    return len(found) > than


@asynccontextmanager
async def following(store: Store, retry: tuple[float, float] = QUICK) -> AsyncIterator[Follower]:
    """Run a reflector, and wait for its first list."""
    follower = Follower(store, retry)
    task = asyncio.create_task(follower.reflector.run())
    try:
        await asyncio.wait_for(follower.reflector.wait_synced(), 10)
        await eventually(lambda: bool(store.watched_from) or task.done())
        yield follower
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_object_is_reported_once() -> None:
    """The first list is reported object by object; after that the copy is synced."""
    store = Store()
    store.put("a")
    store.put("b")
    assert not Follower(store).reflector.synced
    async with following(store) as follower:
        assert follower.reflector.synced
        assert follower.reported == [(None, "a@11"), (None, "b@12")]
        assert follower.failures == [None]


async def test_an_empty_collection_is_synced() -> None:
    """An empty list counts as the first list, so that no caller waits for objects."""
    async with following(Store()) as follower:
        assert follower.copy == {}


async def test_changes_are_reported_with_the_old_object() -> None:
    """An addition, a change and a deletion each have the old and the new object."""
    store = Store()
    async with following(store) as follower:
        store.put("a")
        store.put("a")
        store.delete("a")
        await eventually(lambda: len(follower.reported) == 3)
        assert follower.reported == [(None, "a@11"), ("a@11", "a@12"), ("a@12", None)]
        assert follower.copy == {}
        assert store.lists == 1


async def test_a_watch_that_ends_is_continued() -> None:
    """The next watch starts at the last bookmark's version: nothing is listed, and nothing is reported twice."""
    store = Store()
    store.put("a")
    async with following(store) as follower:
        store.bookmark()
        store.cut()
        await eventually(lambda: len(store.watched_from) == 2)
        store.put("b")
        await eventually(lambda: len(follower.reported) == 2)
        assert store.watched_from == ["11", "16"]
        assert store.lists == 1
        assert set(follower.failures) == {None}


async def test_an_expired_version_is_listed_again() -> None:
    """After 410 Gone each difference is reported once, what has not changed is not, and it is no failure."""
    store = Store()
    for name in ("stays", "goes", "changes"):
        store.put(name)
    async with following(store) as follower:
        before = len(follower.reported)
        # All at once, so that the watch sees none of it.
        store.delete("goes")
        store.put("changes")
        store.put("comes")
        store.compact()
        await eventually(lambda: store.lists == 2)
        await eventually(lambda: len(follower.reported) == before + 3)
        assert follower.reported[before:] == [("goes@12", None), ("changes@13", "changes@15"), (None, "comes@16")]
        assert set(follower.failures) == {None}
        assert follower.copy == store.items


async def test_another_object_of_the_same_name_is_a_change() -> None:
    """An object that was deleted and created while no watch ran has another uid, whatever its version."""
    store = Store()
    store.put("a", uid="first")
    async with following(store) as follower:
        store.delete("a")
        store.version = 10
        store.put("a", uid="second")
        store.events.clear()
        store.cut(Unavailable("connection lost"))
        await eventually(lambda: len(follower.reported) == 2)
        assert follower.copy["a"].metadata.uid == "second"


@pytest.mark.parametrize("error", [Unavailable("500"), Forbidden("403"), ClusterError("a watch event cannot be read")])
async def test_a_broken_watch_is_listed_again(error: ClusterError) -> None:
    """The failure is reported, and so is its end; no change in between is missed."""
    store = Store()
    store.put("a")
    async with following(store) as follower:
        store.refusals = [Unavailable("starting"), Unavailable("starting")]
        store.cut(error)
        store.put("b")
        store.compact()
        await eventually(lambda: follower.copy == store.items and follower.failures[-1] is None)
        assert follower.failures[:2] == [None, error]
        assert [type(failure) for failure in follower.failures[2:]] == [Unavailable, Unavailable, type(None)]


async def test_a_first_list_that_fails_is_repeated() -> None:
    """Before the API server answers, the copy is not synced."""
    store = Store()
    store.refusals = [Unavailable("refused"), Forbidden("no right yet"), Expired("410")]
    store.put("a")
    async with following(store) as follower:
        assert follower.reported == [(None, "a@11")]
        assert [type(failure) for failure in follower.failures] == [Unavailable, Forbidden, type(None)]


class Broken(Store):
    """A feed whose list works and whose every watch ends at once, in the same way."""

    def __init__(self, error: ClusterError | None) -> None:
        super().__init__()
        self.error = error

    async def watch(self, resource_version: str) -> AsyncIterator[Change[Secret]]:
        """End, or fail."""
        self.watched_from.append(resource_version)
        if len(self.watched_from) > 1_000:
            await asyncio.sleep(3600)
        if self.error is not None:
            raise self.error
        for change in self.events[:0]:
            yield change


@pytest.mark.parametrize("error", [Forbidden("403: may get, not watch"), Expired("410"), None], ids=str)
async def test_a_watch_that_never_works_does_not_hammer(error: ClusterError | None) -> None:
    """Where the list works and the watch does not (a right is missing, a proxy cuts it), the pauses grow.

    The pauses are 10, 20, 40 and 80 ms, or as little as half of that with jitter: about a dozen rounds in 300 ms.
    """
    store = Broken(error)
    store.put("a")
    async with following(store, retry=(0.01, 0.08)) as follower:
        await asyncio.sleep(0.3)
        assert 2 <= len(store.watched_from) <= 15
        store.put("b")
        await eventually(lambda: follower.copy == store.items)


async def test_a_watch_that_works_resets_the_pause() -> None:
    """The pause grows within one outage only; after it the first pause is short again."""
    store = Store()
    async with following(store, retry=(0.001, 3600)) as follower:
        for number in range(20):  # pauses that went on doubling would be minutes by now
            store.put(f"a{number}")
            await eventually(lambda: follower.copy == store.items)
            watches = len(store.watched_from)
            store.cut(Unavailable("lost"))
            await eventually(partial(_more, store.watched_from, watches))


Action = Callable[[Store], None]
_names = st.sampled_from("abc")
actions: st.SearchStrategy[Action] = st.one_of(
    _names.map(lambda name: lambda store: store.put(name)),
    _names.map(lambda name: lambda store: store.delete(name) if name in store.items else None),
    st.just(Store.bookmark),
    st.just(Store.compact),
    st.just(Store.cut),
    st.just(lambda store: store.cut(Unavailable("lost"))),
    st.just(lambda store: store.refusals.append(Unavailable("starting"))),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(actions, st.booleans()), max_size=30))
def test_no_change_is_ever_missed(story: list[tuple[Action, bool]]) -> None:
    """Whatever happens, in the end the copy equals the collection, and so does the sum of the reported changes."""

    async def live() -> None:
        store = Store()
        async with following(store, retry=(0.0001, 0.0005)) as follower:
            for action, breathe in story:
                action(store)
                if breathe:
                    await asyncio.sleep(0)
            store.put("last")
            await eventually(lambda: follower.copy == store.items)
            replayed: dict[str, str] = {}
            for old, new in follower.reported:
                name = (new or old or "").partition("@")[0]
                assert replayed.get(name) == old
                replayed[name] = new or ""
                if new is None:
                    del replayed[name]
            assert replayed == {name: _word(found) for name, found in store.items.items()}

    asyncio.run(live())


async def test_an_unreadable_object_keeps_its_last_state() -> None:
    """Neither a watch nor a list drops it from the copy; its deletion and its correction are reported."""
    store = Store()
    store.put("a")
    async with following(store) as follower:
        store.spoil("a")
        store.spoil("b")
        await eventually(lambda: follower.unreadable == ["a", "b"])
        store.cut(Unavailable("503"))
        await eventually(lambda: store.lists == 2)
        assert set(follower.copy) == {"a"}
        assert set(follower.reflector.unreadable) == {("ns", "a"), ("ns", "b")}
        assert follower.unreadable == ["a", "b"], "reported again though nothing has changed"
        store.delete("b")
        store.put("a")
        await eventually(lambda: follower.reported == [(None, "a@11"), ("a@11", "a@15")])
        assert follower.reflector.unreadable == {}
        assert follower.unreadable == ["a", "b", "b", "a"]
        store.spoil("a")
        store.delete("a")
        await eventually(lambda: follower.reported[-1] == ("a@15", None))
        assert follower.copy == {}


async def test_a_failure_becomes_a_problem_when_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a problem before the first list and once a failure has lasted; it ends when a watch works."""
    monkeypatch.setattr("webhook.kube.reflector.SHORT_FAILURE", 0.2)
    store = Store()
    async with following(store) as follower:
        await eventually(lambda: follower.reflector.synced)
        assert follower.reflector.problem == ""
        store.refusals = [Unavailable("503: busy")] * 10_000
        store.cut(Unavailable("cut"))
        await eventually(lambda: follower.reflector.problem == "503: busy")
        store.refusals = []
        store.put("a")
        await eventually(lambda: "a" in follower.copy)
        store.put("b")
        await eventually(lambda: follower.reflector.problem == "")
    assert Reflector(store, lambda _old, _new: None).problem == "not listed yet"
