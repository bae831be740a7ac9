"""The reflector with a real API server that is killed, paused and compacted: no change is missed."""

import asyncio
import base64
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

import webhook.kube.collection
from testbed.controlplane import ControlPlane
from testbed.controlplane.etcd import compact
from webhook.api.objects import Secret
from webhook.kube.client import KubeClient
from webhook.kube.collection import Collection
from webhook.kube.errors import ClusterError, Expired, Forbidden, NotFound
from webhook.kube.kubeconfig import connect
from webhook.kube.reflector import Change, Feed, Listing, Object, Reflector

SECRETS = "/api/v1/namespaces/default/secrets"
NAMES = [f"watched-{number}" for number in range(6)]
T = TypeVar("T", bound=Object)


@pytest.fixture(scope="module")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """A control plane for this module alone, to kill, pause and compact."""
    with ControlPlane(programs) as started:
        yield started


@pytest.fixture
async def cluster(plane: ControlPlane) -> AsyncIterator[KubeClient]:
    """A connection as administrator; the Secrets that a test wrote are deleted afterwards."""
    async with await connect(plane.kubeconfig, "test") as connected:
        yield connected
    plane.kubectl("delete", "secrets", "-l", "watched=true", "--wait=true")


def watched(cluster: KubeClient) -> Collection[Secret]:
    """Return the collection of the Secrets that tests write."""
    return Collection(cluster, SECRETS, Secret, (("labelSelector", "watched=true"),))


class Counted(Generic[T]):
    """A real feed that counts its lists and watches."""

    def __init__(self, feed: Feed[T]) -> None:
        self._feed = feed
        self.lists = 0
        self.watches = 0

    async def list_objects(self) -> Listing[T]:
        """List."""
        self.lists += 1
        return await self._feed.list_objects()

    async def watch(self, resource_version: str) -> AsyncIterator[Change[T]]:
        """Watch."""
        self.watches += 1
        async for change in self._feed.watch(resource_version):
            yield change


class Follower(Generic[T]):
    """A reflector with its failures, and its reported changes as resource versions by name."""

    def __init__(self, feed: Feed[T]) -> None:
        self.feed = Counted(feed)
        self.failures: list[ClusterError] = []
        self.reported: dict[str, str] = {}
        self.reflector: Reflector[T] = Reflector(self.feed, self._changed, on_failure=self._failed)

    def _failed(self, failure: ClusterError | None) -> None:
        if failure is not None:
            self.failures.append(failure)

    def _changed(self, old: T | None, new: T | None) -> None:
        if old is not None:
            assert self.reported.pop(old.metadata.name) == old.metadata.resource_version
        if new is not None:
            assert new.metadata.name not in self.reported
            self.reported[new.metadata.name] = new.metadata.resource_version

    @property
    def copy(self) -> dict[str, str]:
        """The reflector's copy: resource versions by name."""
        return {name: found.metadata.resource_version for (_, name), found in self.reflector.objects.items()}


@asynccontextmanager
async def following(feed: Feed[T]) -> AsyncIterator[Follower[T]]:
    follower = Follower(feed)
    task = asyncio.create_task(follower.reflector.run())
    try:
        yield follower
        assert not task.done(), task
        assert follower.reported == follower.copy, "the reported changes do not lead to the copy"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def eventually(what: str, probe: Callable[[], Any], timeout: float = 120) -> None:  # noqa: ASYNC109 - as `until`
    """Wait for a condition."""
    try:
        async with asyncio.timeout(timeout):
            while not probe():  # noqa: ASYNC110 - conditions of the API server's have no event here
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what}: not after {timeout:g} s") from None


async def write(cluster: KubeClient, name: str, content: str = "") -> None:
    """Create or change a Secret."""
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"watched": "true"}},
        "data": {"content": base64.b64encode(content.encode()).decode()},
    }
    try:
        await cluster.request("PUT", f"{SECRETS}/{name}", body=body)
    except NotFound:
        await cluster.request("POST", SECRETS, body=body)


async def remove(cluster: KubeClient, name: str) -> None:
    await cluster.request("DELETE", f"{SECRETS}/{name}")


async def truth(cluster: KubeClient) -> dict[str, str]:
    """Return the collection as the API server has it."""
    found, _ = await watched(cluster).list_objects()
    return {item.metadata.name: item.metadata.resource_version for item in found}


async def agrees(follower: Follower[Secret], cluster: KubeClient) -> None:
    """Wait until the copy equals the collection."""
    async with asyncio.timeout(30):
        while follower.copy != await truth(cluster):  # noqa: ASYNC110 - the truth is asked for
            await asyncio.sleep(0.02)


async def churn(cluster: KubeClient) -> None:
    """Write and delete Secrets without pause, whether the API server accepts it or not."""
    dice = random.Random(7)  # noqa: S311 - the same sequence in every run
    for number in itertools.count():
        name = dice.choice(NAMES)
        with suppress(ClusterError):
            await (remove(cluster, name) if dice.random() < 0.3 else write(cluster, name, str(number)))
        await asyncio.sleep(0.002)


@asynccontextmanager
async def changing(cluster: KubeClient) -> AsyncIterator[None]:
    """Keep changing Secrets."""
    task = asyncio.create_task(churn(cluster))
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_changes_arrive(cluster: KubeClient) -> None:
    """Objects are created, changed, deleted and created again: the copy follows with one list and one watch."""
    await write(cluster, NAMES[0])
    async with following(watched(cluster)) as follower:
        await agrees(follower, cluster)
        for name in NAMES:
            await write(cluster, name, "changed")
        await remove(cluster, NAMES[1])
        await remove(cluster, NAMES[2])
        await write(cluster, NAMES[2], "again")
        await agrees(follower, cluster)
        assert sorted(follower.copy) == sorted(set(NAMES) - {NAMES[1]})
        assert (follower.feed.lists, follower.feed.watches, follower.failures) == (1, 1, [])


async def test_the_next_watch_continues_the_last_one(cluster: KubeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server ends every watch; while objects change, the next continues without another list."""
    monkeypatch.setattr(webhook.kube.collection, "WATCH_SECONDS", (2, 2))
    async with following(watched(cluster)) as follower:
        async with changing(cluster):
            await eventually("a third watch", lambda: follower.feed.watches >= 3)
        await agrees(follower, cluster)
        assert follower.feed.lists == 1
        assert follower.failures == []


@pytest.mark.parametrize("size", [60_000, 200_000, 700_000])
async def test_large_objects_arrive_by_the_watch(cluster: KubeClient, size: int) -> None:
    """A line of a watch may have a megabyte, and needs no other list."""
    async with following(watched(cluster)) as follower:
        await eventually("a watch", lambda: follower.feed.watches)
        for content in ("x", "y"):
            await write(cluster, NAMES[0], content * size)
            await agrees(follower, cluster)
        assert (follower.feed.lists, follower.failures) == (1, [])


async def test_an_api_server_that_is_killed_is_watched_again(plane: ControlPlane, cluster: KubeClient) -> None:
    """After two SIGKILLs and restarts while objects change, failures are reported and no change is missing."""
    async with following(watched(cluster)) as follower:
        async with changing(cluster):
            for _ in range(2):
                await eventually("changes", lambda: follower.copy)
                plane.kill_apiserver()
                await eventually("a failure", lambda: follower.failures)
                await asyncio.to_thread(plane.start_apiserver)
                follower.failures.clear()
        await agrees(follower, cluster)
        await write(cluster, NAMES[0], "afterwards")
        await agrees(follower, cluster)


async def test_an_api_server_that_pauses_is_watched_again(plane: ControlPlane, cluster: KubeClient) -> None:
    """After SIGSTOP and SIGCONT while objects change, no change from before or after the pause is missing."""
    async with following(watched(cluster)) as follower:
        async with changing(cluster):
            await eventually("changes", lambda: follower.copy)
            plane.pause_apiserver()
            try:
                await asyncio.sleep(1)  # the length of the pause
                paused = dict(follower.copy)
            finally:
                plane.resume_apiserver()
            await eventually("changes after the pause", lambda: follower.copy != paused)
        await agrees(follower, cluster)


class Aged(Generic[T]):
    """A real feed with an old first list, as in a process that was suspended between list and watch."""

    def __init__(self, feed: Feed[T], first: Listing[T]) -> None:
        self._feed = feed
        self._first: Listing[T] | None = first
        self.ended: list[type[Exception]] = []

    async def list_objects(self) -> Listing[T]:
        """Return the old list once, then list."""
        first, self._first = self._first, None
        return first or await self._feed.list_objects()

    async def watch(self, resource_version: str) -> AsyncIterator[Change[T]]:
        """Watch, and record the error that ended the watch."""
        try:
            async for change in self._feed.watch(resource_version):
                yield change
        except ClusterError as error:
            self.ended.append(type(error))
            raise


async def test_a_compacted_history_is_listed_again(plane: ControlPlane, cluster: KubeClient) -> None:
    """Etcd is compacted and the API server restarted: after 410 Gone every change since then arrives."""
    for name in NAMES[:4]:
        await write(cluster, name)
    then = await watched(cluster).list_objects()
    await remove(cluster, NAMES[0])
    await write(cluster, NAMES[1], "changed")
    await remove(cluster, NAMES[2])
    await write(cluster, NAMES[2], "another of the same name")
    await write(cluster, NAMES[5], "new")
    # The API server caches the latest changes, so it has to be restarted; by itself it compacts every five minutes.
    plane.kill_apiserver()
    compact(plane)
    await asyncio.to_thread(plane.start_apiserver)
    feed = Aged(watched(cluster), then)
    async with following(feed) as follower:
        await agrees(follower, cluster)
        assert feed.ended[0] is Expired
        assert follower.feed.lists == 2
        assert follower.failures == []
        await write(cluster, NAMES[0], "back")
        await agrees(follower, cluster)


@pytest.fixture
def account(plane: ControlPlane) -> Iterator[str]:
    """A service account without rights."""
    name = "reader"
    plane.kubectl("create", "serviceaccount", name)
    yield name
    for kind in ("rolebinding", "role", "serviceaccount"):
        plane.kubectl("delete", kind, name, "--ignore-not-found")


def grant(plane: ControlPlane, account: str, *verbs: str) -> None:
    """Grant rights on one Secret, by its name."""
    rights = [f"--verb={','.join(verbs)}", "--resource=secrets", f"--resource-name={NAMES[0]}"]
    plane.kubectl("create", "role", account, *rights)
    plane.kubectl("create", "rolebinding", account, f"--role={account}", f"--serviceaccount=default:{account}")


async def test_one_secret_is_read_by_its_name(plane: ControlPlane, cluster: KubeClient, account: str) -> None:
    """`get` on one name is enough to read it, and nothing else; a missing right and a missing Secret differ."""
    await write(cluster, NAMES[0], "first")
    await write(cluster, NAMES[1], "other")
    async with await connect(plane.kubeconfig_for("default", account), "test") as limited:
        with pytest.raises(Forbidden):
            await limited.read_secret("default", NAMES[0])
        await asyncio.to_thread(grant, plane, account, "get")
        found = None
        async with asyncio.timeout(20):  # the authorizer learns of the right by a watch
            while found is None:
                with suppress(Forbidden):
                    found = await limited.read_secret("default", NAMES[0])
        assert (found.data or {})["content"] == b"first"
        with pytest.raises(Forbidden):
            await limited.read_secret("default", NAMES[1])
        await remove(cluster, NAMES[0])
        with pytest.raises(NotFound):
            await limited.read_secret("default", NAMES[0])
