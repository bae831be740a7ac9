"""Kubeconfig files, with everything they need inline (JSON, which is YAML)."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.controlplane.certificates import Pair


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where an API server listens, and who vouches for it.

    Attributes:
        server: `https://HOST:PORT`.
        ca: The CA certificate, PEM.
    """

    server: str
    ca: bytes

    def write_for_certificate(self, path: Path, pair: Pair) -> Path:
        """Write a kubeconfig that authenticates by client certificate."""
        user = {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}
        return self._write(path, user, "default")

    def write_for_token(self, path: Path, token: str, namespace: str) -> Path:
        """Write a kubeconfig that authenticates by bearer token."""
        return self._write(path, {"token": token}, namespace)

    def _write(self, path: Path, user: Mapping[str, str], namespace: str) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "plane",
            "clusters": [
                {
                    "name": "plane",
                    "cluster": {"server": self.server, "certificate-authority-data": _base64(self.ca)},
                },
            ],
            "contexts": [{"name": "plane", "context": {"cluster": "plane", "user": "user", "namespace": namespace}}],
            "users": [{"name": "user", "user": dict(user)}],
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1))
        return path


def _base64(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
