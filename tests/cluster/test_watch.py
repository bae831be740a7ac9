"""The local copy against a real API server: killed, paused, its history compacted, and no change is missed."""

import asyncio
import base64
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.request import urlopen

import pytest

import webhook.kube.client
from testbed.controlplane import ControlPlane
from webhook.api.objects import Secret
from webhook.kube.client import Collection, KubeClient
from webhook.kube.errors import ClusterError, Expired, Forbidden, NotFound
from webhook.kube.kubeconfig import connect
from webhook.kube.reflector import Change, Feed, Listing, Object, Reflector

SECRETS = "/api/v1/namespaces/default/secrets"
NAMES = [f"watched-{number}" for number in range(6)]
T = TypeVar("T", bound=Object)


@pytest.fixture(scope="module")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """A control plane of this file's own, to kill, pause and compact."""
    with ControlPlane(programs) as started:
        yield started


@pytest.fixture
async def cluster(plane: ControlPlane) -> AsyncIterator[KubeClient]:
    """A connection as administrator; what a test has written is gone afterwards."""
    async with await connect(plane.kubeconfig, "test") as connected:
        yield connected
    plane.kubectl("delete", "secrets", "-l", "watched=true", "--wait=true")


def watched(cluster: KubeClient) -> Collection[Secret]:
    """The Secrets that tests write."""
    return Collection(cluster, SECRETS, Secret, (("labelSelector", "watched=true"),))


class Counted(Generic[T]):
    """A real feed, with its lists and watches counted."""

    def __init__(self, feed: Feed[T]) -> None:
        self._feed = feed
        self.lists = 0
        self.watches = 0

    async def list_objects(self) -> Listing[T]:
        """List."""
        self.lists += 1
        return await self._feed.list_objects()

    async def changes(self, resource_version: str) -> AsyncIterator[Change[T]]:
        """Watch."""
        self.watches += 1
        async for change in self._feed.changes(resource_version):
            yield change


class Follower(Generic[T]):
    """A reflector, what it failed with, and its copy as versions by name."""

    def __init__(self, feed: Feed[T]) -> None:
        self.feed = Counted(feed)
        self.failures: list[ClusterError] = []
        self.told: dict[str, str] = {}
        self.reflector: Reflector[T] = Reflector(self.feed, self._changed, on_failure=self._failed)

    def _failed(self, failure: ClusterError | None) -> None:
        if failure is not None:
            self.failures.append(failure)

    def _changed(self, old: T | None, new: T | None) -> None:
        if old is not None:
            assert self.told.pop(old.metadata.name) == old.metadata.resource_version
        if new is not None:
            assert new.metadata.name not in self.told
            self.told[new.metadata.name] = new.metadata.resource_version

    @property
    def copy(self) -> dict[str, str]:
        """The copy."""
        return {name: found.metadata.resource_version for (_, name), found in self.reflector.objects.items()}


@asynccontextmanager
async def following(feed: Feed[T]) -> AsyncIterator[Follower[T]]:
    follower = Follower(feed)
    task = asyncio.create_task(follower.reflector.run())
    try:
        yield follower
        assert not task.done(), task
        assert follower.told == follower.copy, "what was told does not lead to the copy"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def eventually(what: str, probe: Callable[[], Any], timeout: float = 30) -> None:  # noqa: ASYNC109 - as `until`
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
    """What is really there."""
    found, _ = await watched(cluster).list_objects()
    return {item.metadata.name: item.metadata.resource_version for item in found}


async def agrees(follower: Follower[Secret], cluster: KubeClient) -> None:
    """Wait until the copy is the collection."""
    async with asyncio.timeout(30):
        while follower.copy != await truth(cluster):  # noqa: ASYNC110 - the truth is asked for
            await asyncio.sleep(0.02)


async def churn(cluster: KubeClient) -> None:
    """Write and delete without pause, whatever the API server says to it."""
    dice = random.Random(7)  # noqa: S311 - repeatable
    for number in itertools.count():
        name = dice.choice(NAMES)
        with suppress(ClusterError):
            await (remove(cluster, name) if dice.random() < 0.3 else write(cluster, name, str(number)))
        await asyncio.sleep(0.002)


@asynccontextmanager
async def changing(cluster: KubeClient) -> AsyncIterator[None]:
    """Changes all the while."""
    task = asyncio.create_task(churn(cluster))
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_changes_arrive(cluster: KubeClient) -> None:
    """Created, changed, deleted and made anew: the copy follows, by one list and one watch."""
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


async def test_a_watch_goes_on_where_the_last_one_ended(cluster: KubeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server ends every watch in time: under changes the next goes on from there, without another list."""
    monkeypatch.setattr(webhook.kube.client, "WATCH_SECONDS", (2, 2))
    async with following(watched(cluster)) as follower:
        async with changing(cluster):
            await eventually("a third watch", lambda: follower.feed.watches >= 3)
        await agrees(follower, cluster)
        assert follower.feed.lists == 1
        assert follower.failures == []


@pytest.mark.parametrize("size", [60_000, 200_000, 700_000])
async def test_large_objects_arrive_by_the_watch(cluster: KubeClient, size: int) -> None:
    """One line of a watch may be a megabyte; it costs no new list."""
    async with following(watched(cluster)) as follower:
        await eventually("a watch", lambda: follower.feed.watches)
        for content in ("x", "y"):
            await write(cluster, NAMES[0], content * size)
            await agrees(follower, cluster)
        assert (follower.feed.lists, follower.failures) == (1, [])


async def test_an_api_server_that_dies_is_followed_again(plane: ControlPlane, cluster: KubeClient) -> None:
    """After two kills of the API server under changes, failures were reported and no change is missing."""
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


async def test_an_api_server_that_pauses_is_waited_for(plane: ControlPlane, cluster: KubeClient) -> None:
    """SIGSTOP and SIGCONT under changes: what was done around the pause arrives."""
    async with following(watched(cluster)) as follower:
        async with changing(cluster):
            await eventually("changes", lambda: follower.copy)
            plane.pause_apiserver()
            try:
                await asyncio.sleep(1)  # the length of the pause, not a wait for something
                paused = dict(follower.copy)
            finally:
                plane.resume_apiserver()
            await eventually("changes after the pause", lambda: follower.copy != paused)
        await agrees(follower, cluster)


def compact(plane: ControlPlane) -> None:
    """Have etcd forget every older revision, by its own gateway (what `etcdctl compact` calls)."""
    at = _etcd(plane, "range", {"key": base64.b64encode(b"x").decode()})["header"]["revision"]
    _etcd(plane, "compaction", {"revision": at, "physical": True})


def _etcd(plane: ControlPlane, call: str, body: dict[str, Any]) -> dict[str, Any]:
    url = f"http://127.0.0.1:{plane._layout.etcd_port}/v3/kv/{call}"
    with urlopen(url, data=json.dumps(body).encode(), timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


class Aged(Generic[T]):
    """A real feed whose first list was long ago, as for a process that was suspended between list and watch."""

    def __init__(self, feed: Feed[T], first: Listing[T]) -> None:
        self._feed = feed
        self._first: Listing[T] | None = first
        self.ended: list[type[Exception]] = []

    async def list_objects(self) -> Listing[T]:
        """Return what was listed then, once."""
        first, self._first = self._first, None
        return first or await self._feed.list_objects()

    async def changes(self, resource_version: str) -> AsyncIterator[Change[T]]:
        """Watch, and note how it ended."""
        try:
            async for change in self._feed.changes(resource_version):
                yield change
        except ClusterError as error:
            self.ended.append(type(error))
            raise


async def test_a_history_that_is_gone_is_listed_again(plane: ControlPlane, cluster: KubeClient) -> None:
    """410 Gone, by a compaction of etcd and an API server without memory: everything that happened since arrives."""
    for name in NAMES[:4]:
        await write(cluster, name)
    then = await watched(cluster).list_objects()
    await remove(cluster, NAMES[0])
    await write(cluster, NAMES[1], "changed")
    await remove(cluster, NAMES[2])
    await write(cluster, NAMES[2], "another of the same name")
    await write(cluster, NAMES[5], "new")
    # The API server remembers the latest changes itself, and compacts by itself only every five minutes.
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
    """Grant the reading of one Secret by its name."""
    rights = [f"--verb={','.join(verbs)}", "--resource=secrets", f"--resource-name={NAMES[0]}"]
    plane.kubectl("create", "role", account, *rights)
    plane.kubectl("create", "rolebinding", account, f"--role={account}", f"--serviceaccount=default:{account}")


@asynccontextmanager
async def one_secret(plane: ControlPlane, account: str) -> AsyncIterator[Follower[Secret]]:
    """Follow one Secret with the account's rights."""
    async with (
        await connect(plane.kubeconfig_for("default", account), "test") as limited,
        following(limited.secret("default", NAMES[0])) as follower,
    ):
        yield follower


async def test_one_secret_is_followed_by_its_name_alone(plane: ControlPlane, cluster: KubeClient, account: str) -> None:
    """`get` and `watch` on one name are enough: it comes, changes, goes and comes again; others are never seen."""
    grant(plane, account, "get", "watch")
    async with one_secret(plane, account) as follower:
        await asyncio.wait_for(follower.reflector.wait_synced(), 10)
        assert follower.copy == {}
        for content in ("first", "second", None, "third"):
            await write(cluster, NAMES[1], str(content))
            if content is None:
                await remove(cluster, NAMES[0])
                await eventually("its end", lambda: not follower.copy)
            else:
                await write(cluster, NAMES[0], content)
                await eventually(content, partial(_has, follower, content))
        assert list(follower.copy) == [NAMES[0]]
        assert follower.failures == []


def _has(follower: Follower[Secret], content: str) -> bool:
    found = follower.reflector.objects.get(("default", NAMES[0]))
    return found is not None and (found.data or {}).get("content") == content.encode()


async def test_a_missing_right_is_told_and_its_coming_noticed(
    plane: ControlPlane, cluster: KubeClient, account: str
) -> None:
    """What is forbidden at first is watched once it is granted, without a restart."""
    await write(cluster, NAMES[0])
    async with one_secret(plane, account) as follower:
        await eventually("a refusal", lambda: follower.failures)
        assert {type(failure) for failure in follower.failures} == {Forbidden}
        assert not follower.reflector.synced
        await asyncio.to_thread(grant, plane, account, "get", "watch")
        await agrees(follower, cluster)


async def test_without_the_right_to_watch_it_is_read_again_and_again(
    plane: ControlPlane, cluster: KubeClient, account: str
) -> None:
    """`get` alone: changes arrive with seconds of delay, and the API server is not hammered."""
    await write(cluster, NAMES[0])
    grant(plane, account, "get")
    async with one_secret(plane, account) as follower:
        await agrees(follower, cluster)
        await eventually("some refusals", lambda: len(follower.failures) >= 6)
        lists = follower.feed.lists
        await asyncio.sleep(1)  # the span that is measured
        assert follower.feed.lists - lists <= 4
        await write(cluster, NAMES[0], "changed")
        await agrees(follower, cluster)
