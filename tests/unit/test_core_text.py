"""Text from other programs is cleaned where it enters, so that it can be shown."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.cli.table import print_table
from migrations.core.text import MAX_ERROR, REPLACEMENT, clean, shorten
from migrations.dialects.native import NATIVE
from migrations.reader import wire

ESCAPE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
AT = datetime(2026, 1, 26, tzinfo=UTC)


@given(st.text())
def test_what_is_clean_can_be_shown(text: str) -> None:
    """As many characters as before, all printable; a printable text is the same object."""
    cleaned = clean(text)
    assert cleaned.isprintable()
    assert len(cleaned) == len(text)
    assert clean(cleaned) is cleaned
    assert all(each.isprintable() or each in "\n\t" for each in clean(text, lines=True))


def test_a_long_text_says_how_long_it_was() -> None:
    """A long text is cut to its beginning, and says how long it was."""
    assert shorten("x" * MAX_ERROR) == "x" * MAX_ERROR
    assert shorten("x" * 5000) == "x" * MAX_ERROR + "… (5,000 characters)"


def row(revision: str, **values: object) -> dict[str, object]:
    """Return a row of the native ledger."""
    return {
        "id": 1,
        "revision": revision,
        "checksum": "x",
        "batch": 1,
        "state": "failed",
        "started_at": AT,
        "finished_at": AT,
        "duration_ms": 1,
        "applied_by": None,
        "compatible_from": None,
        "error": None,
    } | values


def test_records_are_clean() -> None:
    """Names, errors and authors; an error keeps its lines, and is cut."""
    ledger = NATIVE.parse_ledger(
        [row(f"2026{ESCAPE}", applied_by=f"pod{ESCAPE}", error=f"one\ntwo{ESCAPE}" + "x" * 1_000_000)]
    )
    (record,) = ledger.records
    assert record.revision == "2026" + clean(ESCAPE)
    assert record.revision.count(REPLACEMENT) == len([each for each in ESCAPE if not each.isprintable()])
    assert record.applied_by is not None
    assert record.applied_by.isprintable()
    assert record.error is not None
    assert record.error.startswith("one\ntwo")
    assert "\x1b" not in record.error
    assert len(record.error) < MAX_ERROR + 50


def test_what_a_worker_says_is_clean() -> None:
    """Whatever a hostile server sends, the texts of a worker's answer can be shown."""
    assert "\x1b" not in wire.cut(ESCAPE)
    assert len(wire.cut("x" * 1_000_000)) == wire.MAX_TEXT


def test_tables_show_no_escape_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    """Tables clean text from other sources too, such as the reason of a bypass or another program's Event."""
    print_table(("NAME",), [(f"app{ESCAPE}\nsecond",)])
    shown = capsys.readouterr().out
    assert shown.splitlines()[1].isprintable()
    assert len(shown.splitlines()) == 2
