"""etcd of a test control plane, by its HTTP gateway."""

import base64
import json
from typing import Any
from urllib.request import urlopen

from testbed.controlplane import ControlPlane


def compact(plane: ControlPlane) -> None:
    """Compact etcd up to its newest revision, as `etcdctl compact` does."""
    at = _call(plane, "range", {"key": base64.b64encode(b"x").decode()})["header"]["revision"]
    _call(plane, "compaction", {"revision": at, "physical": True})


def _call(plane: ControlPlane, call: str, body: dict[str, Any]) -> dict[str, Any]:
    url = f"http://127.0.0.1:{plane._layout.etcd_port}/v3/kv/{call}"
    with urlopen(url, data=json.dumps(body).encode(), timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found
