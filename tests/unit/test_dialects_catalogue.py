from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from migrations.core.ledger import Record, State
from migrations.dialects.catalogue import AUTO, CONCRETE_DIALECTS, DIALECTS, find_dialect
from migrations.dialects.dialect import Dialect, DialectError, LedgerTable, LedgerUnreadable
from migrations.dialects.native import NATIVE
from migrations.files.external import ExternalFilesError
from migrations.sql.statements import load

if TYPE_CHECKING:
    from pathlib import Path

TABLE = LedgerTable("app", "s", 't"')
WRITES = re.compile(
    r"\b(insert|delete|create|alter|drop|truncate|lock table|for update)\b|\bpg_(try_)?advisory", re.IGNORECASE
)


@pytest.mark.parametrize("dialect", CONCRETE_DIALECTS, ids=lambda dialect: dialect.name)
def test_each_dialect_reads_the_table_that_is_named(dialect: Dialect) -> None:
    """Its statement has no placeholder left, and neither writes nor locks; the dialect is found by its name."""
    statement = dialect.read_statement(TABLE)
    assert '"s"."t"""' in statement
    assert "{" not in statement
    assert not WRITES.search(statement)
    assert find_dialect(dialect.name) is dialect
    assert dialect.candidates() == (dialect,)
    assert hash(dialect)
    assert ("pg_locks" not in statement) or dialect.lock_keys(TABLE)


@pytest.mark.parametrize("dialect", [d for d in CONCRETE_DIALECTS if d.row_lock], ids=lambda dialect: dialect.name)
def test_each_row_lock_has_its_table(dialect: Dialect) -> None:
    """The table is in the ledger's schema; reading it writes nothing."""
    table, read, clear = (
        dialect.lock_relation(TABLE),
        dialect.read_lock_statement(TABLE),
        dialect.unlock_statement(TABLE),
    )
    assert table is not None
    assert table.startswith('"s".')
    assert read is not None
    assert table in read
    assert not WRITES.search(read)
    assert clear is not None
    assert table in clear
    assert "{" not in read + clear


def test_a_dialect_without_a_row_lock_has_no_statement_for_it() -> None:
    """The native ledger's lock is an advisory lock."""
    assert NATIVE.lock_relation(TABLE) is None
    assert NATIVE.read_lock_statement(TABLE) is None
    assert NATIVE.unlock_statement(TABLE) is None


@pytest.mark.parametrize("dialect", CONCRETE_DIALECTS, ids=lambda dialect: dialect.name)
def test_a_tool_is_declared_in_one_place(dialect: Dialect, tmp_path: Path) -> None:
    """A new tool takes a Dialect in one module and one SQL file: both say all that the rest of the code asks for.

    The SQL file reads the ledger, and the lock where there is one. The Dialect lists the migrations of a directory or
    raises with what is expected, and names the programs that start the tool; only the native one is started by none.
    """
    blocks = {"read", "lock", "unlock"} if dialect.row_lock else {"read"}
    assert blocks <= load(dialect.name).keys()
    if dialect is NATIVE:
        assert (dialect.directory(tmp_path), dialect.programs) == ((), ())
    else:
        with pytest.raises(ExternalFilesError, match=r"^expected|do not name"):
            dialect.directory(tmp_path)
        assert dialect.programs


def test_no_two_dialects_share_a_name_or_a_program() -> None:
    """Each name, alias and program leads to one dialect, and the `auto` dialect may be any of them."""
    names = [name for dialect in (*CONCRETE_DIALECTS, AUTO) for name in (dialect.name, *dialect.aliases)]
    programs = [program for dialect in CONCRETE_DIALECTS for program in dialect.programs]
    assert sorted(DIALECTS) == sorted(names)
    assert len(set(programs)) == len(programs)
    assert find_dialect("sequelize") is find_dialect("umzug")
    assert AUTO.candidates() == CONCRETE_DIALECTS


def test_the_native_dialect_imports_no_other() -> None:
    """`migrate up` with nothing pending starts fast; neither does it import what lists other tools' directories."""
    code = "import sys, migrations.dialects.native; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    rooms = ("migrations.dialects.", "migrations.files.")
    imported = {name for name in done.stdout.split() if name.startswith(rooms)}
    assert imported == {
        "migrations.dialects.dialect",
        "migrations.dialects.native",
        "migrations.files.native",
        "migrations.files.positions",
        "migrations.files.sql_sections",
    }


def test_an_unknown_dialect_is_refused_with_the_known_ones() -> None:
    """The message lists what a user may write."""
    with pytest.raises(DialectError, match=r"auto.*knex.*ledgergate.*'nosuch'"):
        find_dialect("nosuch")


NATIVE_ROW = dict.fromkeys(("checksum", "compatible_from", "error", "started_at", "finished_at", "applied_by")) | {
    "revision": "a.sql",
    "state": "failed",
    "batch": 3,
    "duration_ms": 5,
}


def test_a_native_row_is_a_record() -> None:
    """Every column is an attribute; an extension of the name is ignored."""
    assert NATIVE.parse_ledger([NATIVE_ROW]).records == (Record("a", State.FAILED, batch=3, duration_ms=5),)


@pytest.mark.parametrize("damage", [{"state": "odd"}, {"revision": None}])
def test_a_row_that_the_tool_never_writes_is_refused(damage: dict[str, str | None]) -> None:
    """The message names the dialect."""
    with pytest.raises(LedgerUnreadable, match="no ledgergate ledger"):
        NATIVE.parse_ledger([NATIVE_ROW | damage])
