"""What public reports describe, each as a script in `tests/cases/runner`, with what a user must see.

The scripts use psql of the wheel, and a database of their own on the tests' server.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from testbed.postgres import drop_database
from tests.integration.test_dry_run import find_program

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

CASES = Path(__file__).parents[1] / "cases" / "runner"
HIDDEN = "row-level security of public.ledgergate_migrations (no policy for this role) hides rows of the ledger from"
NO_ROWS = "migrations/20250101000000_a.sql:3: expected the rows of COPY ... FROM STDIN below it"
CUT_SHORT = "20250101000000_a failed. migrations/20250101000000_a.sql:3: syntax error at"
WANTED: dict[str, list[tuple[str, int]]] = {  # text and how often it is there
    "rls-hides-ledger": [
        (f"error: {HIDDEN}", 2),
        (f"gave up after 1 s: the ledger cannot be read: {HIDDEN}", 1),
        ("[exit 4]", 1),
    ],
    "copy-from-stdin-hang": [(NO_ROWS, 1), ("\n0\n", 1)],
    "eof-syntax-error": [
        (f"error: {CUT_SHORT} the end of the section", 1),
        (f'"message": "{CUT_SHORT} the end of the section', 1),
        ("migrations/20250101000000_a.sql:2: unterminated quoted string", 1),
        ("its row in the ledger public.ledgergate_migrations could not be written", 1),
        ("[exit 1]", 4),
    ],
    "eof-traceback": [(f"error: {CUT_SHORT} end of input", 1), ("[exit 1]", 1)],
    "wrong-file-blamed": [
        ("20250101000000_a failed. migrations/20250101000000_a.sql: duplicate key", 1),
        ("20250102000000_b failed. migrations/20250102000000_b.sql: its statements succeeded, but its row", 1),
        ("done: the ledger is at 20250102000000_b", 1),
        ("[exit 1]", 2),
        ("[exit 0]", 1),
    ],
    "dry-run-differs": [
        ("up: app.a public.b", 1),
        ("dry run's script: app.a public.b", 1),
        ("nothing to do: the ledger holds every migration up to 20250105000000_e", 1),
        ("[exit 0]", 1),
    ],
    "setting-refused": [
        ("the server refuses the setting client_connection_check_interval", 1),
        ("done: the ledger is at 20250101000000_a", 1),
        ("[exit 0]", 1),
    ],
}
NEVER = ("Traceback", "files and ledger agree", "ERROR:", "transaction_deferrable")


def run_case(case: str, ledgergate: Ledgergate, server: str) -> str:
    """Run a script against the server of this URL, and return what it has written."""
    environment = ledgergate.shell
    del environment["DATABASE_URL"]
    path = f"{find_program('psql').parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", str(CASES / case / "run.sh")],
        env={**environment, "PATH": path, "A": server, "TMPDIR": str(ledgergate.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    drop_database(f"{server}/case_{case.replace('-', '_')}")
    return done.stdout


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir() if path.is_dir()))
async def test_a_report(case: str, ledgergate: Ledgergate, connection: Connection, postgres: str) -> None:
    """It ends by itself, with the exit code and the words that name the cause; never with a traceback."""
    if case == "setting-refused" and connection.get_server_version().major < 14:
        pytest.skip("the setting is known since PostgreSQL 14")
    output = run_case(case, ledgergate, urlsplit(postgres)._replace(path="").geturl())
    found = {text: output.count(text) for text, _ in WANTED[case]}
    assert found == dict(WANTED[case]), output
    assert not [words for words in NEVER if words in output], output
