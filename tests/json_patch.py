"""Apply a JSON patch as strictly as the API server does (RFC 6902)."""

import copy
from typing import Any

from webhook.core.patches import Patch


def apply(document: dict[str, Any], patch: Patch) -> dict[str, Any]:
    """Return the patched document; `add`, `remove` and `test` are all that we send.

    Raises:
        AssertionError: a `test` failed, an index does not exist, or the operation is another one.
        KeyError: a path does not exist.
    """
    result = copy.deepcopy(document)
    for step in patch:
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        target: Any = result
        for part in path:
            target = target[int(part)] if isinstance(target, list) else target[part]
        index: Any = last
        if isinstance(target, list):
            index = len(target) if last == "-" else int(last)
            assert 0 <= index <= len(target)
        match step["op"]:
            case "add" if isinstance(target, list):
                target.insert(index, step["value"])
            case "add":
                target[index] = step["value"]
            case "remove":
                del target[index]
            case "test":
                assert target[index] == step["value"], step
            case unknown:
                raise AssertionError(unknown)
    return result
