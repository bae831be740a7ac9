"""An object that is nested too deeply for msgspec hides no other."""

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.api.objects import Pod
from webhook.kube.collection import Collection, Query
from webhook.kube.decoding import decode, prune
from webhook.kube.reflector import ChangeKind

DEEP = "[" * 9_000 + "]" * 9_000
"""Within the ten thousand levels that Kubernetes decodes."""
TEXTS = st.text(alphabet=st.sampled_from('a"\\[]{}\n,:é'), max_size=8)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=20,
)


def pod(name: str, **fields: str) -> str:
    """Return a pod as JSON; `fields` are its further fields, as JSON."""
    metadata = json.dumps({"namespace": "ns", "name": name, "resourceVersion": "7", "uid": name})
    further = "".join(f', "{key}": {value}' for key, value in fields.items())
    return f'{{"metadata": {metadata}, "spec": {{"containers": []}}{further}}}'


class Answers:
    """The answers of an API server to a list and to a watch.

    Args:
        items: the objects, as JSON.
    """

    def __init__(self, *items: str) -> None:
        self._items = items

    async def get(self, path: str, query: Query) -> bytes:
        """Return the list."""
        del path, query
        return f'{{"metadata": {{"resourceVersion": "9"}}, "items": [{",".join(self._items)}]}}'.encode()

    async def stream(self, path: str, query: Query, silence: float) -> AsyncIterator[bytes]:
        """Yield a change of each object."""
        del path, query, silence
        for item in self._items:
            yield f'{{"type": "MODIFIED", "object": {item}}}'.encode()


@pytest.mark.parametrize("field", ["status", "other"])
async def test_a_deep_object_is_listed_with_the_others(field: str) -> None:
    """The others are listed, and the deep object by its name, whether the deep field is one that is read or not."""
    feed = Collection(Answers(pod("one"), pod("deep", **{field: DEEP}), pod("two")), "/pods", Pod)
    found, version = await feed.list_objects()
    assert [each.metadata.name for each in found] == ["one", "deep", "two"]
    assert [isinstance(each, Pod) for each in found] == [True, field == "other", True]
    assert version == "9"


@pytest.mark.parametrize("field", ["status", "other"])
async def test_a_deep_object_is_a_change_like_any_other(field: str) -> None:
    """A watch goes on, instead of listing everything again for each change of the object."""
    feed = Collection(Answers(pod("deep", **{field: DEEP}), pod("two")), "/pods", Pod)
    changes = [change async for change in feed.watch("7")]
    assert [change.kind for change in changes] == [ChangeKind.MODIFIED] * 2
    assert [isinstance(change.object, Pod) for change in changes] == [field == "other", True]


def shallow(value: Any, depth: int) -> Any:
    """Return what :func:`prune` should make of a decoded document."""
    if not isinstance(value, list | dict):
        return value
    if depth == 0:
        return None
    if isinstance(value, list):
        return [shallow(each, depth - 1) for each in value]
    return {key: shallow(each, depth - 1) for key, each in value.items()}


@given(DOCUMENTS, st.integers(0, 5), st.booleans())
def test_what_is_deeper_is_null(document: Any, depth: int, escaped: bool) -> None:
    """And nothing else is changed, whatever brackets, quotes and backslashes are inside of strings."""
    text = json.dumps(document, ensure_ascii=escaped).encode()
    assert json.loads(prune(text, depth)) == shallow(document, depth)


@given(st.binary(max_size=60) | st.text(alphabet='[]{}"\\,1', max_size=30).map(str.encode), st.integers(0, 3))
def test_any_bytes_can_be_pruned(document: bytes, depth: int) -> None:
    """Pruning raises nothing for any bytes, and valid JSON stays valid."""
    pruned = prune(document, depth)
    try:
        msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    msgspec.json.decode(pruned)


def test_a_broken_answer_is_a_decode_error() -> None:
    """An answer that is cut off is one, inside a pruned value or before it."""
    for broken in (b"[" * 5_000, b'{"metadata": ' + DEEP.encode(), b'{"metadata": {}'):
        with pytest.raises(msgspec.DecodeError):
            decode(broken, Pod)
