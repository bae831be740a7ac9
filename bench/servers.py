"""The peers' servers that are measured: their certificate, a process each, and whether they answer."""

import json
import os
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from testbed.controlplane.certificates import Authority

ROOT = Path(__file__).parents[1]


def write_certificate(directory: Path) -> tuple[Path, Path, bytes]:
    """Write a certificate for this machine and its key; return their files, and the CA that signed it, as PEM."""
    authority = Authority(datetime.now(UTC))
    pair = authority.server(["localhost"], ["127.0.0.1"])
    certificate, key = directory / "server.crt", directory / "server.key"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    return certificate, key, authority.pem


@contextmanager
def running(command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> Iterator[int]:
    """Run a server; yield its process id."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=ROOT, stdout=output, stderr=output)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def allows(url: str, body: bytes) -> bool:
    """Return whether a server answers an AdmissionReview, and allows what it asks."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - https, see above
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
            return json.load(answer)["response"]["allowed"] is True
    except OSError:
        return False
