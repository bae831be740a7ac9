"""The test bed's choice of ports: what one process was given, no other gets."""

import multiprocessing
from contextlib import ExitStack

import pytest

from testbed.ports import BLOCK, free_ports


@pytest.mark.parametrize("way", ["spawn", "fork"])
def test_no_two_processes_get_the_same_port(way: str) -> None:
    """Not even where none of them listens yet; a forked process does not go on in its parent's block."""
    context = multiprocessing.get_context(way)
    ports = free_ports(100)
    with ExitStack() as processes:
        pools = [processes.enter_context(context.Pool(1)) for _ in range(4)]
        for pool in pools:
            ports += pool.apply(free_ports, (100,))
    assert len(set(ports)) == len(ports) == 500


def test_a_process_gets_a_port_again_only_after_all_others() -> None:
    """A server that was killed can have its port back."""
    first = free_ports(10)
    assert not {*first} & {*free_ports(100)}


def test_more_ports_than_there_are_is_an_error() -> None:
    """It does not look for ever."""
    with pytest.raises(RuntimeError, match="ports were asked for"):
        free_ports(BLOCK + 1)
