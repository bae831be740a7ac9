"""Free ports of 127.0.0.1, of which no two processes get the same.

A port is used some time after it was chosen, and again when its server was killed. One that is merely free at the
moment may be another process's by then. So each process has a block of ports to itself, and goes round in it.
"""

import itertools
import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

# Below the kernel's range for outgoing connections (32768 up), so that no client socket gets
# the API server's port while it is being restarted.
FIRST, BLOCK, BLOCKS = 20_000, 250, 48


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 on which no process listens now, and which no other process gets from here.

    Raises:
        RuntimeError: The process's block, or every block, is used up.
    """
    chosen: list[int] = []
    _, ports = _block(os.getpid())
    for port in itertools.islice(ports, BLOCK):
        if len(chosen) == count:
            break
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            chosen.append(port)
    if len(chosen) < count:
        raise RuntimeError(f"{count} ports were asked for, {len(chosen)} of the {BLOCK} of this process are free")
    return chosen


@cache
def _block(_process: int) -> tuple[socket.socket, Iterator[int]]:
    """Take a block that no process has; a forked one gets its own, since it has another id.

    What makes it ours is a name in the abstract namespace of Unix sockets (unix(7)): the kernel frees it when the
    process ends, however it ends, and there is no file.
    """
    for number in random.sample(range(BLOCKS), BLOCKS):
        owner = socket.socket(socket.AF_UNIX)
        try:
            owner.bind(f"\0ledgergate-ports-{number}")
        except OSError:
            owner.close()
        else:
            start = FIRST + number * BLOCK
            return owner, itertools.cycle(range(start, start + BLOCK))
    raise RuntimeError(f"{BLOCKS} processes have taken all the ports from {FIRST} to {FIRST + BLOCKS * BLOCK - 1}")
