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
    "address-refused": [
        ("?schema=public: lock: free", 1),
        ("?hostaddr=127.0.0.1: lock: free", 1),
        ("takes no TLS, which sslmode=verify-full demands", 1),
        ("PGHOST=::1: error: [::1]:", 1),
        (
            "DB_HOST=/cloudsql/p:r:i: error: /cloudsql/p:r:i:5432/case_address_refused cannot be reached: No such file",
            1,
        ),
        ("error: DB_PORT is tcp://10.96.0.10:5432, a variable that Kubernetes sets for a Service of this name", 1),
        ('/case_address_refused: password authentication failed for user "postgres"', 1),
    ],
    "directory-misread": [
        ("rails in folders (want 20250101000000+2): 20250101000000+2.", 1),
        ("alembic, recursive_version_locations (want bbb): bbb\n", 1),
        ("yoyo with a post-apply hook (want 20250101_01_a+1): 20250101_01_a+1.", 1),
    ],
    "lock-let-go": [
        ("lock: held by pod-1", 1),
        ("running: 20250101000000_a since", 1),
        ("applied 20250101000000_a in", 1),
        ("waiting for the lock, held by pod-1", 1),
        ("nothing to do: the ledger holds every migration up to 20250101000000_a", 1),
        ("[exit 0]\n1\n", 1),
    ],
    "marker-not-seen": [
        ("error: migrations/20250101000000_a.sql:3: expected `-- migrate:up` or `-- migrate:down` in small letters", 2),
        ("[exit 2]", 2),
        ("rows left of 1: 1", 2),
    ],
    "names-and-files": [
        ("nothing to do: the ledger holds every migration up to", 2),
        ("[exit 0]\n1\n", 1),
        ("accepted, although their line ends (LF or CRLF) are not those that were applied", 1),
        ("error: migrations/20250105000000_caf\\xe9.sql: expected a name in UTF-8", 1),
        ("[exit 0]", 3),
        ("[exit 2]", 1),
    ],
    "pgservice-ignored": [
        ("psql goes to: case_pgservice_ignored", 1),
        ("done: the ledger is at 20250101000000_a", 1),
        ("ledger in the service's database: ledgergate_migrations; in the other: \n", 1),
    ],
    "python-exits": [
        ("error: 20250101000000_a failed. migrations/20250101000000_a.py:10: SystemExit: 0", 1),
        ("[exit 1]", 1),
        ("20250101000000_a  pending", 1),
    ],
    "session-authorization": [
        ("applied 20250102000000_b", 1),
        ("[exit 0]", 1),
        ("a|case_owner\nb|postgres\n", 1),
    ],
    "status-says-changed": [
        ("got:\n20250101000000_a  applied", 1),
        ("1700000000000  applied", 1),
        ("got:\nR__views  applied", 1),
    ],
    "temp-table-leak": [
        ("applied 20250102000000_b", 1),
        ("[exit 0]\n1|done|\n2|done|\n1\n", 1),
    ],
    "temp-table-resume": [
        ('20250101000000_a failed. migrations/20250101000000_a.sql:3: could not create unique index "users_email"', 1),
        ("is duplicated. The statements before it are done, but up cannot continue", 1),
        ("is duplicated. It ran outside a transaction", 1),
        ("It cannot be resumed: what follows may need the temporary table users that", 1),
        ("[exit 1]", 2),
        ("[exit 1]\n2\n", 1),
    ],
}
NEVER = ("Traceback", "files and ledger agree", "ERROR:", "transaction_deferrable", "waited in vain", "-0 s")


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
