"""The commands against hostile servers end in time with a one-line error, or at a signal."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from testbed.evil.server import evil_servers
from testbed.waiting import until

LEDGERGATE = Path(sys.executable).with_name("ledgergate")
CONNECT_SECONDS = 2
MOST_CHARACTERS = 15_000
SLACK = 30.0
"""Seconds beyond the time to connect, on a machine that has other things to do."""


@pytest.fixture(scope="module")
def evil() -> Iterator[Mapping[str, int]]:
    """Port of a server for each behaviour."""
    with evil_servers() as ports:
        yield ports


def status(port: int) -> list[str]:
    """Return a command that reads a ledger."""
    url = f"postgresql://u:p@127.0.0.1:{port}/evil"
    return [str(LEDGERGATE), "migrate", "status", "--connect-timeout", str(CONNECT_SECONDS), "--database-url", url]


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("asks_for_a_billion_iterations", "1,000,000,000 SCRAM iterations, expected at most 1,000,000"),
        ("announces_2_gb", "a message 'R' of 2,147,483,647 bytes, expected 8 to 2,000"),
        ("announces_2_gb_and_sends_nothing", "a message 'R' of 2,147,483,647 bytes, expected 8 to 2,000"),
        ("announces_less_than_nothing", "a message 'R' of -1 bytes, expected 8 to 2,000"),
        ("continues_sasl_first", "its authentication is out of order, at request 11"),
        ("ends_sasl_first", "its authentication is out of order, at request 12"),
        ("asks_for_the_password_without_end", "its authentication is out of order, at request 3"),
        ("notices_without_end", "it sends a message 'N' where it has to ask for authentication"),
        ("sends_a_byte_a_second", "did not answer within"),
        ("closes_at_once", "cannot be reached"),
        ("has_no_room", "too many clients already"),
        ("fails_with_50_mb", "a message 'E' of 50,000,028 bytes, expected 4 to 30,000"),
        ("says_nothing", "did not answer within"),
    ],
)
def test_an_evil_server_is_an_error_in_time(evil: Mapping[str, int], behaviour: str, words: str) -> None:
    """The command says briefly what happened, within the time to connect."""
    began = time.monotonic()
    done = subprocess.run(status(evil[behaviour]), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in {2, 4}
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < MOST_CHARACTERS
    assert time.monotonic() - began < CONNECT_SECONDS + SLACK


def test_the_reason_is_not_hidden_by_the_last_attempt() -> None:
    """A server closes the first connection, and is silent then: the deadline cuts the last attempt short."""
    accepted: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):  # it is closed
            while True:
                client = server.accept()[0]
                accepted.append(client)
                if len(accepted) == 1:
                    client.close()

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(serve)
        done = subprocess.run(
            status(server.getsockname()[1]),
            capture_output=True,
            text=True,
            check=False,
            timeout=CONNECT_SECONDS + SLACK,
        )
        server.shutdown(socket.SHUT_RDWR)
    for client in accepted:
        client.close()
    assert done.returncode == 4
    assert len(accepted) > 1
    assert "did not answer" not in done.stderr
    assert "(tried for 2 s)" in done.stderr


WAITING = {
    "answers_no_query",
    "copies_in",
    "copies_out",
    "negotiates_the_protocol",
    "notices_without_end_once_open",
    "notifies_without_end",
    "sends_a_row_now_and_then",
    "sends_rows_that_were_not_asked_for",
    "sends_rows_without_end",
}
"""They open a session as they should, and then leave a query without an end: a command waits, as for a long one. Some
send what no query has asked for, which is an error, unless the first query is faster: then it looks like its answer."""


def test_no_evil_server_is_more_than_an_error(evil: Mapping[str, int]) -> None:
    """Whatever a server sends, the command ends in time with a message for people; where it may wait, at a signal."""

    def run(name: str) -> str:
        limit = CONNECT_SECONDS + 3 if name in WAITING else 120
        with subprocess.Popen(
            status(evil[name]), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                _, errors = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                ended_by_signal = _ends(process)
                return "" if name in WAITING and ended_by_signal else f"{name}: not ended after {limit} s"
        fine = process.returncode in {2, 4} and errors.startswith("error: ") and len(errors) < MOST_CHARACTERS
        return "" if fine else f"{name}: {process.returncode} {errors[-2000:]}"

    with ThreadPoolExecutor(4) as pool:
        assert not list(filter(None, pool.map(run, sorted(evil))))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("behaviour", ["answers_no_query", "notices_without_end_once_open"])
def test_a_server_that_falls_silent_or_floods_leaves_the_command_killable(
    evil: Mapping[str, int], behaviour: str, number: signal.Signals
) -> None:
    """Once a session is open, a command waits for its server; a signal ends it at once."""
    with subprocess.Popen(status(evil[behaviour]), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        try:
            until("a connection", lambda: _has_connection(run.pid), timeout=SLACK)
            run.send_signal(number)
            assert run.wait(SLACK) != 0
        finally:
            run.kill()


def _ends(process: subprocess.Popen[str]) -> bool:
    """Wait for a process that was sent a signal, and kill it when it does not end."""
    try:
        process.communicate(timeout=SLACK)
    except subprocess.TimeoutExpired:
        process.kill()
        return False
    return process.returncode != 0


def _has_connection(pid: int) -> bool:
    """Return whether a process connects to its server, and so has installed what handles its signals.

    An open socket would not prove that: an event loop has a pair of its own earlier.
    """
    with suppress(psutil.Error):
        return bool(psutil.Process(pid).net_connections("tcp"))
    return False
