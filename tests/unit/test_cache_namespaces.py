"""Which namespaces have opted in: a late watch never releases a pod."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from webhook.api.namespace import ADMISSION_LABEL, UNDECLARED_LABEL, Namespace, OptIn
from webhook.api.objects import Metadata
from webhook.cache.namespaces import NamespaceCache
from webhook.kube.errors import NotFound, Unavailable
from webhook.kube.reflector import Change, ChangeKind, Feed

ENABLED, AUDIT, OFF = OptIn.ENABLED, OptIn.AUDIT, OptIn.OFF


def labelled(value: str | None, version: str = "1", undeclared: str | None = None) -> Namespace:
    labels = {} if value is None else {ADMISSION_LABEL: value}
    labels |= {} if undeclared is None else {UNDECLARED_LABEL: undeclared}
    return Namespace(metadata=Metadata(name="shop", labels=labels, resource_version=version))


class Cluster:
    """One namespace: as the watch shows it, and as it is."""

    def __init__(self, watched: Namespace | None, true: Namespace | None) -> None:
        self.watched, self.true = watched, true
        self.asked = 0
        self.failure: Exception | None = None
        self.changed: asyncio.Queue[Change[Namespace]] = asyncio.Queue()

    def opted_in(self) -> Feed[Namespace]:
        """Return the feed."""
        return self

    async def list_objects(self) -> tuple[list[Namespace], str]:
        """List."""
        return [self.watched] if self.watched else [], "1"

    async def watch(self, resource_version: str) -> AsyncIterator[Change[Namespace]]:
        """Watch."""
        del resource_version
        while True:
            yield await self.changed.get()

    async def namespace(self, name: str) -> Namespace:
        """Return the namespace as it is."""
        self.asked += 1
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if self.true is None:
            raise NotFound(name)
        return self.true


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@asynccontextmanager
async def following(cluster: Cluster, clock: Clock) -> AsyncIterator[tuple[NamespaceCache, asyncio.Queue[str]]]:
    changed: asyncio.Queue[str] = asyncio.Queue()
    namespaces = NamespaceCache(cluster, changed.put_nowait, clock)
    task = asyncio.create_task(namespaces.run())
    try:
        await asyncio.wait_for(namespaces._reflector.wait_synced(), 30)
        yield namespaces, changed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("enabled", ENABLED), ("audit", AUDIT), ("Enabled", OFF), ("", OFF), ("true", OFF), (None, OFF)],
)
def test_only_our_own_values_opt_in(value: str | None, expected: OptIn) -> None:
    """As in the webhooks' selectors, any other value opts nothing in."""
    assert OptIn.of(labelled(value)) is expected


async def test_a_namespace_that_the_watch_has_not_shown_counts_as_enabled() -> None:
    """A pod may be seen before its namespace's label: it stays held, and the API server is asked."""
    clock = Clock()
    async with following(Cluster(None, labelled("enabled")), clock) as (namespaces, changed):
        assert namespaces.label("shop") is OFF
        clock.now = 101
        assert namespaces.admission("shop", since=100.5) is ENABLED
        assert await asyncio.wait_for(changed.get(), 30) == "shop"
        assert namespaces.admission("shop", since=100.5) is ENABLED


@pytest.mark.parametrize(
    ("true", "expected"), [(labelled(None), OFF), (labelled("audit"), AUDIT), (None, OFF), (labelled("no"), OFF)]
)
async def test_opting_out_counts_once_it_is_confirmed(true: Namespace | None, expected: OptIn) -> None:
    """Only an answer that is newer than the pod releases it; for a later pod the API server is asked again."""
    clock, cluster = Clock(), Cluster(None, true)
    async with following(cluster, clock) as (namespaces, changed):
        clock.now = 101
        assert namespaces.admission("shop", since=100) is ENABLED
        await asyncio.wait_for(changed.get(), 30)
        assert namespaces.admission("shop", since=100) is expected
        assert namespaces.admission("shop", since=100.9) is expected
        assert cluster.asked == 1
        cluster.true = labelled("enabled")
        clock.now = 102
        assert namespaces.admission("shop", since=101.5) is ENABLED
        await asyncio.wait_for(changed.get(), 30)
        assert namespaces.admission("shop", since=101.5) is ENABLED
        assert cluster.asked == 2


async def test_pods_wait_where_the_label_says_so() -> None:
    """What the watch shows is believed at once, and the API server is not asked."""
    cluster = Cluster(labelled("enabled", undeclared="wait"), None)
    async with following(cluster, Clock()) as (namespaces, _):
        assert namespaces.waits("shop", since=100) is True
        assert cluster.asked == 0


async def test_where_a_namespace_does_not_enforce_the_wait_is_not_certain() -> None:
    """Whether it enforces must be confirmed first: until then no Event may say that a pod waits for a gate."""
    cluster = Cluster(labelled("audit", undeclared="wait"), None)
    async with following(cluster, Clock()) as (namespaces, _):
        assert namespaces.waits("shop", since=100) is None


@pytest.mark.parametrize(
    ("watched", "true", "expected"),
    [
        (labelled("enabled"), labelled("enabled", undeclared="wait"), True),
        (None, labelled("enabled", undeclared="wait"), True),
        (labelled("enabled"), labelled("enabled", undeclared="Wait"), False),
        (labelled("enabled"), labelled("enabled"), False),
        (None, None, False),
    ],
)
async def test_no_pod_starts_before_it_is_certain_that_it_need_not_wait(
    watched: Namespace | None, true: Namespace | None, expected: bool
) -> None:
    """The watch may show a label later than the pod that came after it: the API server is asked, once."""
    clock, cluster = Clock(), Cluster(watched, true)
    async with following(cluster, clock) as (namespaces, changed):
        if watched is not None:
            await asyncio.wait_for(changed.get(), 30)
        clock.now = 101
        assert namespaces.waits("shop", since=100.5) is None
        assert namespaces.waits("shop", since=100.5) is None
        assert await asyncio.wait_for(changed.get(), 30) == "shop"
        assert namespaces.waits("shop", since=100.5) is expected
        assert cluster.asked == 1
        assert namespaces.waits("shop", since=101.5) is None, "for a later pod the answer may be another"


async def test_a_change_of_the_wait_is_reported() -> None:
    """Held pods are judged anew, and what the API server said before does not count any more."""
    clock, cluster = Clock(), Cluster(labelled("enabled"), labelled("enabled"))
    async with following(cluster, clock) as (namespaces, changed):
        await asyncio.wait_for(changed.get(), 30)
        clock.now = 101
        assert namespaces.waits("shop", since=100) is None
        await asyncio.wait_for(changed.get(), 30)
        assert namespaces.waits("shop", since=100) is False
        cluster.changed.put_nowait(Change(ChangeKind.MODIFIED, "2", labelled("enabled", "2", undeclared="wait")))
        await asyncio.wait_for(changed.get(), 30)
        assert namespaces.waits("shop", since=100) is True
        cluster.changed.put_nowait(Change(ChangeKind.MODIFIED, "3", labelled("enabled", "3")))
        await asyncio.wait_for(changed.get(), 30)
        assert namespaces.waits("shop", since=100) is None


async def test_an_unknown_value_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the value that was probably meant, since pods of the namespace start as if there were no label."""
    async with following(Cluster(labelled("enabled", undeclared="waits"), None), Clock()) as (_, changed):
        await asyncio.wait_for(changed.get(), 30)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == ["namespace.label_unknown"]


async def test_a_change_of_the_label_is_reported() -> None:
    """Enabled, audit, off: each is reported once; a change of another label is not."""
    cluster = Cluster(labelled("enabled"), labelled(None))
    async with following(cluster, Clock()) as (namespaces, changed):
        assert await asyncio.wait_for(changed.get(), 30) == "shop"
        for kind, value in ((ChangeKind.MODIFIED, "audit"), (ChangeKind.MODIFIED, "enabled"), (ChangeKind.DELETED, "")):
            version = f"{kind}{value}"
            cluster.changed.put_nowait(Change(kind, version, labelled(value, version)))
            assert await asyncio.wait_for(changed.get(), 30) == "shop"
        assert namespaces.label("shop") is OFF
        same = Change(ChangeKind.ADDED, "8", labelled("enabled", "8"))
        again = Change(ChangeKind.MODIFIED, "9", labelled("enabled", "9"))
        for change in (same, again, Change(ChangeKind.MODIFIED, "10", labelled("audit", "10"))):
            cluster.changed.put_nowait(change)
        await asyncio.wait_for(changed.get(), 30)
        await asyncio.wait_for(changed.get(), 30)
        assert namespaces.label("shop") is AUDIT
        assert changed.empty()


async def test_a_namespace_that_cannot_be_read_counts_as_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that does not answer releases no pod; it is asked again."""
    monkeypatch.setattr("webhook.cache.namespaces.RETRY_SECONDS", 0.01)
    clock, cluster = Clock(), Cluster(None, labelled(None))
    cluster.failure = Unavailable("503: busy")
    async with following(cluster, clock) as (namespaces, changed):
        clock.now = 101
        assert namespaces.admission("shop", since=100) is ENABLED
        await asyncio.wait_for(changed.get(), 30)
        assert namespaces.admission("shop", since=100) is ENABLED
        await asyncio.wait_for(changed.get(), 30)
        assert namespaces.admission("shop", since=100) is OFF
