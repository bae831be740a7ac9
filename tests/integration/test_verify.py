"""`ledgergate migrate verify`: exit 3 when files and ledger disagree, else 0."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

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
    edited.write_text("-- migrate:up\nselect 2;\n-- migrate:down none\n")
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
    assert set(document) == {"ok", "head", "pending", "ahead", "findings", "without_down"}


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


@pytest.mark.parametrize("command", ["up", "verify", "down"])
def test_other_line_ends_are_no_edit(ledgergate: Ledgergate, command: str) -> None:
    """LF became CRLF in one file, CRLF became LF in another: it is said, and accepted."""
    unix = ledgergate.write("unix", "select 1", down="select 1;")
    windows = ledgergate.write("windows", "select 1", down="select 1;")
    windows.write_bytes(windows.read_bytes().replace(b"\n", b"\r\n"))
    assert ledgergate("up").returncode == 0
    for path, old, new in ((unix, b"\n", b"\r\n"), (windows, b"\r\n", b"\n")):
        path.write_bytes(path.read_bytes().replace(old, new))
    done = ledgergate(command)
    assert (done.returncode, done.stderr) == (0, "")
    if command != "down":
        assert done.stdout.count("line ends") == (1 if command == "up" else 2)
        assert unix.name in done.stdout
        assert windows.name in done.stdout
    assert ledgergate("status").stdout.count("changed") == 0
    unix.write_bytes(unix.read_bytes() + b"-- more\n")
    assert ledgergate("verify").returncode == (0 if command == "down" else 3)


async def test_a_name_in_the_other_unicode_form_is_the_same_revision(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """Applied once; a row of an older version, which recorded the file system's form, can be undone."""
    composed, decomposed = "20250101000000_a\u00f1adir", "20250101000000_an\u0303adir"
    path = ledgergate.write(decomposed, "create table a (n int)", down="drop table a;")
    assert ledgergate("up").returncode == 0
    path.rename(path.with_name(f"{composed}.sql"))
    assert "nothing to do" in ledgergate("up").stdout
    assert await connection.fetchval("select revision from ledgergate_migrations") == composed
    await connection.execute("update ledgergate_migrations set revision = $1", decomposed)
    assert "nothing to do" in ledgergate("up").stdout
    assert ledgergate("verify").stdout == "files and ledger agree\n"
    assert ledgergate("wait", "--revision", decomposed, "--timeout", "1").returncode == 0
    assert ledgergate("down").returncode == 0
    assert await connection.fetchval("select count(*) from ledgergate_migrations") == 0

    path = ledgergate.write("20250102000000_a\u00f1o", "select nonsense", "transaction:false")
    assert ledgergate("up", "--to", composed).returncode == 0
    assert ledgergate("up").returncode == 1
    await connection.execute("update ledgergate_migrations set revision = normalize(revision, NFD)")
    assert ledgergate("resolve", "20250102000000_an\u0303o", "--applied").returncode == 0
    assert "nothing to do" in ledgergate("up").stdout


def test_a_file_that_says_nothing_of_undoing_is_named_once(ledgergate: Ledgergate) -> None:
    """It is no problem: exit 0. A section, even an empty one, `none` and Python's `down = None` keep it silent."""
    for number, text in enumerate(("", "-- migrate:down\n", "-- migrate:down none\n", "-- migrate:down\nselect 1;\n")):
        path = ledgergate.directory / f"2025010100000{number}_sql.sql"
        path.write_text(f"-- migrate:up\nselect 1;\n{text}")
    for number, text in enumerate(("", "down = None\n", "async def down(connection): ...\n")):
        ledgergate.write(f"2025010200000{number}_python.py", f"async def up(connection): ...\n{text}")
    done = ledgergate("verify")
    assert (done.returncode, done.stderr) == (0, "")
    named, _ = done.stdout.splitlines()
    assert named.startswith(
        "no down section: migrations/20250101000000_sql.sql, migrations/20250102000000_python.py; put"
    )
    assert json.loads(ledgergate("verify", "--json").stdout)["without_down"] == [
        "migrations/20250101000000_sql.sql",
        "migrations/20250102000000_python.py",
    ]
    assert "no down section" not in ledgergate("up").stdout
    refused = ledgergate("down", "--steps", "9")
    assert "sql.sql has no down section" in refused.stderr
    assert "20250101000002_sql.sql declares that it cannot be undone" in refused.stderr
