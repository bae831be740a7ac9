"""Kubeconfig files (JSON, which is YAML), with their certificates in files beside them.

Python clients write inline certificates to temporary files, which outlive a client that is killed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.controlplane.certificates import Pair


@dataclass(frozen=True, slots=True)
class Cluster:
    """Address and CA of an API server.

    Attributes:
        server: `https://HOST:PORT`.
        ca: File of the CA certificate, PEM; None for a server without TLS.
    """

    server: str
    ca: Path | None

    def write_for_certificate(self, path: Path, pair: Pair) -> Path:
        """Write a kubeconfig that authenticates by client certificate, which is written next to it as `.pem`."""
        pem = path.with_suffix(".pem")
        pem.touch(mode=0o600)
        pem.write_bytes(pair.certificate + pair.key)
        return self._write(path, {"client-certificate": str(pem), "client-key": str(pem)}, "default")

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
                    "cluster": {"server": self.server, **({"certificate-authority": str(self.ca)} if self.ca else {})},
                },
            ],
            "contexts": [{"name": "plane", "context": {"cluster": "plane", "user": "user", "namespace": namespace}}],
            "users": [{"name": "user", "user": dict(user)}],
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1))
        return path
