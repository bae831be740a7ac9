"""What users of Knex have reported, each as a script in `tests/cases/knex`, with what a user must see.

The scripts run the real Knex, and psql of the wheel, on a database of their own on the tests' server.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from testbed.tools import install
from tests.integration.test_address_tls import _PROGRAMS, secured
from tests.integration.test_dry_run import find_program

if TYPE_CHECKING:
    from tests.integration.conftest import Ledgergate

__all__ = ["secured"]  # a server with TLS, whose certificate is not trusted

CASES = Path(__file__).parents[1] / "cases" / "knex"
WANTED: dict[str, list[str]] = {  # patterns, each of which is there once
    "app-name-killed": [
        r"statements of the killed run: 0\n",
        r"exec rc=0\n",
        r"freed the row lock: its owner, a run of `exec`, is dead",
        r"done: the ledger is at 20240102_double \(public\.knex_migrations\)",
        r"n: 200\n20240102_double\.js in batch 1\nlocked: 0\n",
    ],
    "live-lock-freed": [
        r"locked: 1\n",
        r"exec rc=0\nknex rc=0\n",
        r"waiting for its owner to free it .*likely owners: backend \d+ may write the lock",
        r"Batch 2 run: 1 migrations",
        r"nothing to do: the ledger is at 20240102_double \(public\.knex_migrations\)",
        r"n: 200\n20240101_a\.js in batch 1\n20240102_double\.js in batch 2\n$",
    ],
    "mjs": [
        r"Batch 1 run: 1 migrations\n20240101_a\.mjs\n",
        r"revision: 20240101_a\+1\.[0-9a-f]{12}\n",
        r"the ledger holds 20240101_a\nwait rc=0\n",
    ],
    "nested-script": [
        r"run: 1 migrations\nseeded\ndone: the ledger is at 20240101_a \(public\.knex_migrations\)\nexec rc=0\n",
        r"nothing to do: the ledger is at 20240101_a \(public\.knex_migrations\)\nnamed rc=0\n",
        r"golang-migrate's: \.\n",
    ],
    "no-verify": [
        r"Batch 1 run: 1 migrations|Batch 1 ran the following migrations",
        r"Batch 2 run: 1 migrations\ndone: the ledger is at 20240102_b \(public\.knex_migrations\)\nexec rc=0\n",
        r"\n20240101_a\.js\n20240102_b\.js\n$",
    ],
    "rollback-expect": [
        r"CMD goes back, so that LEDGERGATE_EXPECT \(20240101_a\+1\.[0-9a-f]{12}\) does not count\n",
        r"Batch 1 rolled back: 1 migrations\ndone: the ledger is at its beginning .*\nexec rc=0\nrows: 0, table: \.\n",
    ],
    "status-needs-lock-table": [
        r"may read the lock: f\nthe ledger holds 20240101_a\nwait rc=0\n",
        r"20240101_a  applied",
        r'row lock: unknown, since the role may not read "public"\."knex_migrations_lock"\nstatus rc=0\n$',
    ],
    "two-directories": [
        r"revision: 20240401_late\+3\.[0-9a-f]{12}\nBatch 2 run: 1 migrations\n",
        r"done: the ledger is at 20240401_late \(public\.knex_migrations\)\nexec rc=0\n",
        r"No Pending Migration files Found",
        r"tables: b c late\n$",
    ],
}
NEVER = ("Traceback", "ERROR:", "waited in vain")


def run_case(case: str, ledgergate: Ledgergate, server: str) -> str:
    """Run a script against the server of this URL, and return what it has written."""
    try:
        modules = install.npm(install.PINS, install.place(), lambda _: None)
    except install.InstallError as reason:
        pytest.skip(str(reason))
    environment = ledgergate.shell
    del environment["DATABASE_URL"]
    done = subprocess.run(
        ["bash", str(CASES / case / "run.sh")],
        env={
            **environment,
            "PATH": f"{find_program('psql').parent}{os.pathsep}{environment['PATH']}",
            "PGBASE": urlsplit(server)._replace(path="").geturl(),
            "KNEX": str(modules),
            "TMPDIR": str(ledgergate.home),
            "npm_config_update_notifier": "false",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    return done.stdout


def check(case: str, output: str) -> None:
    """Compare what a script has written with what is wanted."""
    found = {pattern: len(re.findall(pattern, output)) for pattern in WANTED[case]}
    assert found == dict.fromkeys(WANTED[case], 1), output
    assert not [words for words in NEVER if words in output], output


@pytest.mark.parametrize(
    "case", sorted(path.name for path in CASES.iterdir() if path.is_dir() and path.name != "no-verify")
)
def test_a_report(case: str, ledgergate: Ledgergate, postgres: str) -> None:
    """Each migration has its effect once, and the exit code and the words are those of what the ledger holds."""
    check(case, run_case(case, ledgergate, postgres))


@pytest.mark.skipif(not _PROGRAMS, reason="no PostgreSQL with TLS is installed")
def test_no_verify(ledgergate: Ledgergate, request: pytest.FixtureRequest) -> None:
    """`sslmode=no-verify`, which only node-postgres knows, means to us what it means to Knex."""
    server, _ = request.getfixturevalue("secured")
    check("no-verify", run_case("no-verify", ledgergate, server.url()))


def test_no_verify_without_tls(ledgergate: Ledgergate, postgres: str) -> None:
    """Where the server has no TLS, exit 2 says so, as Knex itself does."""
    output = run_case("no-verify", ledgergate, postgres)
    assert "Error: The server does not support SSL connections" in output
    assert "takes no TLS, which sslmode=no-verify demands\nexec rc=2\n" in output
