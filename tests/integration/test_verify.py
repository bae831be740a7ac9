"""`ledgergate migrate verify`: exit 3 when files and ledger disagree, else 0."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]


async def test_files_and_ledger_agree(ledgergate: Ledgergate, connection: Connection) -> None:
    """Exit 0 with nothing applied, all applied, something pending, or a ledger that is ahead; nothing is written."""
    ledgergate.write("one", "select 1")
    done = ledgergate("verify")
    assert (done.returncode, done.stdout) == (
        0,
        "files and ledger agree; the table public.ledgergate_migrations does not exist yet; 1 pending\n",
    )
    assert not await connection.fetchval("select to_regclass('ledgergate_migrations') is not null")
    two = ledgergate.write("two", "select 1")
    assert ledgergate("up").returncode == 0
    assert ledgergate("verify").stdout == "files and ledger agree\n"
    two.unlink()
    done = ledgergate("verify")
    assert (done.returncode, done.stdout) == (0, "files and ledger agree; the ledger is ahead by 1\n")


async def test_every_problem_is_reported_at_once(ledgergate: Ledgergate, connection: Connection) -> None:
    """Exit 3: an edited file with both sums, a missing one, a gap and a failed migration."""
    missing = ledgergate.write("20250101000001_missing", "select 1")
    edited = ledgergate.write("20250101000002_edited", "select 1")
    ledgergate.write("20250101000004_last", "select 1")
    ledgergate.write("20250101000005_failed", "select nonsense", "transaction:false")
    assert ledgergate("up").returncode == 1
    missing.unlink()
    edited.write_text("-- migrate:up\nselect 2;\n")
    ledgergate.write("20250101000003_gap", "select 1")

    done = ledgergate("verify")
    recorded = await connection.fetchval("select checksum from ledgergate_migrations where revision like '%edited'")
    assert done.returncode == 3
    assert [line.split("_")[1].split()[0] for line in done.stderr.splitlines()] == [
        "missing",
        "edited.sql",
        "gap.sql",
        "failed",
    ]
    assert recorded in done.stderr
    assert "nonsense" in done.stderr
    assert "resolve 20250101000005_failed --rolled-back" in done.stderr
    assert done.stdout == "4 wrong\n"

    document = json.loads(ledgergate("verify", "--json").stdout)
    assert document["ok"] is False
    assert [finding["kind"] for finding in document["findings"]] == ["Missing", "Changed", "Gap", "Dirty"]
    changed = document["findings"][1]
    assert changed["recorded_checksum"] == recorded
    assert len(changed["file_checksum"]) == 64
    assert changed["path"] == "migrations/20250101000002_edited.sql"
    assert set(document) == {"ok", "head", "pending", "ahead", "findings"}


def test_a_revision_applied_late_is_reported_and_is_no_problem(ledgergate: Ledgergate) -> None:
    """`up` refuses a gap; --allow-out-of-order fills it; `verify` still shows the order, with exit 0."""
    ledgergate.write("20250101000002_two", "select 1")
    assert ledgergate("up").returncode == 0
    ledgergate.write("20250101000001_one", "select 1")
    assert ledgergate("verify").returncode == 3
    refused = ledgergate("up")
    assert (refused.returncode, "--allow-out-of-order" in refused.stderr) == (2, True)
    late = ledgergate("up", "--allow-out-of-order")
    assert (late.returncode, late.stderr) == (0, "")
    done = ledgergate("verify")
    assert done.returncode == 0
    assert "20250101000001_one was applied after a newer one" in done.stdout
