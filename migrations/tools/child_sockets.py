"""The TCP sockets of this process and its descendants, by which the server's sessions of a wrapped tool are found.

A tool may name its sessions as it likes, but the address and port of its socket are what the server sees, unless a
pooler or a translation of addresses stands between.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Endpoint = tuple[str, int]
"""An IP address and a port."""

_PROC = Path("/proc")
_SOCKET = re.compile(r"socket:\[([0-9]+)\]")


def local_endpoints(root: int) -> frozenset[Endpoint]:
    """Return the local endpoints of the TCP sockets of a process and all its descendants.

    Returns nothing where the system has no /proc.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_net.5.html

    Args:
        root: The process's id.
    """
    return frozenset(endpoint for pid in _family(root) for endpoint in _endpoints(_PROC / str(pid)))


def _family(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    with suppress(OSError):
        for entry in os.scandir(_PROC):
            if entry.name.isdigit():
                with suppress(OSError, ValueError):
                    # The second field, a program's name in parentheses, may hold anything.
                    fields = Path(entry.path, "stat").read_text(errors="replace").rpartition(")")[2].split()
                    children.setdefault(int(fields[1]), []).append(int(entry.name))
    pending = [root]
    while pending:
        pid = pending.pop()
        yield pid
        pending += children.get(pid, ())


def _endpoints(process: Path) -> Iterator[Endpoint]:
    inodes = set()
    with suppress(OSError):
        for entry in os.scandir(process / "fd"):
            with suppress(OSError):
                if found := _SOCKET.fullmatch(os.readlink(entry.path)):  # noqa: PTH115 - a link to no path
                    inodes.add(found[1])
    if not inodes:
        return
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (process / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[9] in inodes:
                    yield _decode(fields[1])


def _decode(text: str) -> Endpoint:
    """Decode an endpoint of /proc/PID/net/tcp: each 4 bytes of the address in the machine's order, in hexadecimal."""
    address, _, port = text.partition(":")
    words = (int(address[start : start + 8], 16) for start in range(0, len(address), 8))
    parsed = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed), int(port, 16)
