"""`ledgergate migrate status` of the native ledger, as text and as JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from migrations.dialects.native import NATIVE
from migrations.postgres import advisory_lock

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

KEYS = {
    "dialect",
    "table",
    "row_lock",
    "expected",
    "head",
    "at_expected",
    "contracts_left",
    "dirty",
    "revisions",
    "lock",
}
ROW_KEYS = {
    "revision",
    "standing",
    "path",
    "compatible_from",
    "checksum",
    "batch",
    "started_at",
    "finished_at",
    "duration_ms",
    "applied_by",
    "error",
}


def fill(ledgergate: Ledgergate) -> None:
    """One applied, one contract migration applied, one failed, one contract migration pending."""
    ledgergate.write("one", "select 1")
    ledgergate.write("two", "select 1", "contract compatible-from:20250101000000_one")
    ledgergate.write("three", "select nonsense", "transaction:false")
    ledgergate.write("four", "select 1", "contract compatible-from:20250101000002_three")
    assert ledgergate("up").returncode == 1


def test_the_text_shows_what_is_wrong_and_what_to_do(ledgergate: Ledgergate) -> None:
    """Contract migrations with the boundary, pending ones too; the failed one with its error and the fix."""
    fill(ledgergate)
    done = ledgergate("status")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[:4]] == ["applied", "applied", "failed", "pending"]
    assert "images older than 20250101000000_one cannot run" in lines[1]
    assert "nonsense" in lines[2]
    assert "images older than 20250101000002_three cannot run" in lines[3]
    assert "head: 20250101000001_two; 2 applied, 1 pending, 1 failed" in lines
    assert "lock: free" in lines
    assert "ledger: ledgergate, public.ledgergate_migrations" in lines
    assert any(
        re.fullmatch(r"expected: 20250101000002_three\+3\..*, which the ledger does not hold", each) for each in lines
    )
    assert "contract: images older than 20250101000000_one cannot run, since 20250101000001_two is applied" in lines
    assert any(each.startswith("left for the contract phase: 20250101000003_four (breaks images") for each in lines)
    assert lines[-1].startswith("dirty: 20250101000002_three failed: ")
    assert "resolve 20250101000002_three --rolled-back" in lines[-1]


async def test_who_holds_the_lock_and_what_runs(ledgergate: Ledgergate, connection: Connection) -> None:
    """While the lock is held a `running` row is running, and there is no advice to settle it."""
    fill(ledgergate)
    await connection.execute("update ledgergate_migrations set state = 'running', error = null where state = 'failed'")
    await connection.execute("set application_name = 'ledgergate pod-9'")
    await connection.fetchval("select pg_advisory_lock($1)", advisory_lock.lock_key(NATIVE.relation()))
    text = ledgergate("status").stdout
    assert "pod-9" in next(line for line in text.splitlines() if line.startswith("lock: held by"))
    assert "running: 20250101000002_three since" in text
    assert "resolve" not in text
    assert json.loads(ledgergate("status", "--json").stdout)["lock"]["application"] == "ledgergate pod-9"


def test_json_has_every_key_always(ledgergate: Ledgergate) -> None:
    """The documented keys are there whether there is a record, a file, both, or no ledger at all."""
    document = json.loads(ledgergate("status", "--json").stdout)
    assert document == {
        "dialect": "ledgergate",
        "table": "public.ledgergate_migrations",
        "row_lock": None,
        "expected": None,
        "head": None,
        "at_expected": True,
        "contracts_left": [],
        "dirty": None,
        "revisions": [],
        "lock": None,
    }
    fill(ledgergate)
    (ledgergate.directory / "20250101000000_one.sql").unlink()
    document = json.loads(ledgergate("status", "--json").stdout)
    assert set(document) == KEYS
    assert all(set(row) == ROW_KEYS for row in document["revisions"])
    assert [row["standing"] for row in document["revisions"]] == ["missing", "applied", "failed", "pending"]
    assert document["dirty"] == "20250101000002_three"
    assert document["head"] == "20250101000001_two"
    assert document["expected"].startswith("20250101000002_three+2.")
    assert document["contracts_left"] == ["20250101000003_four"]
    assert document["at_expected"] is False


def test_check_sets_the_exit_code(ledgergate: Ledgergate) -> None:
    """Exit 3 while anything is pending, 0 when all is applied, and 0 when the ledger is ahead."""
    ledgergate.write("one", "select 1")
    newer = ledgergate.write("two", "select 1")
    assert ledgergate("status", "--check").returncode == 3
    assert ledgergate("up", "--to", "20250101000000_one").returncode == 0
    assert ledgergate("status", "--check", "--json").returncode == 3
    assert ledgergate("up").returncode == 0
    assert ledgergate("status", "--check").returncode == 0
    newer.unlink()
    assert ledgergate("status", "--check").returncode == 0
