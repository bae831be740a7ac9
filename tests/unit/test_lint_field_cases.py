"""What users have reported of lint, each as a history in `tests/cases/lint` whose name says what was wrong.

Of each kind there are at least three more histories, in `tests/lint_histories.py` and `tests/lint_harmless.py`, or
directories, in `tests/unit/test_lint_layouts.py`; `OTHERS` has them, and a test counts them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lint_command import LintRun, run, write
from tests.lint_harmless import HARMLESS
from tests.lint_histories import HAZARDS, MANY_REASONS, SELF_REFERENCES

CASES = Path(__file__).parents[1] / "cases" / "lint"
HISTORIES = sorted(path.stem for path in CASES.iterdir() if "-- file: " in path.read_text())

# What is found in the second file of a history: line and rule, without advice.
WANTED: dict[str, list[tuple[int, str]]] = {
    "fp_enum_swap": [(3, "type-change")],  # its rewrite is real; that the type is dropped and renamed is no finding
    "fp_index_if_not_exists_known": [],
    "fp_serial_to_integer": [],
    "fp_set_not_null_already": [],
    "miss_add_column_if_not_exists_type": [(2, "narrow-without-contract"), (2, "type-change")],
    "miss_attach_partition_scan": [(2, "partition-scan"), (2, "partition-scan")],
    "miss_create_table_references": [(3, "mixed-ddl-dml")],
    "miss_domain_column": [(2, "domain-column")],
    "miss_drop_default_not_null_column": [(2, "drop-without-contract")],
    "miss_drop_function_used_by_older_images": [(2, "drop-without-contract")],
    "miss_drop_trigger": [(2, "drop-without-contract"), (3, "drop-without-contract")],
    "miss_lock_chain_two_tables": [(3, "work-under-lock")],
    "miss_type_change_index_rebuild": [(3, "type-change-dependents"), (4, "type-change-dependents")],
    "unclear_self_reference": [(2, "foreign-key-not-valid")],
}
# The SQL of the other histories of each kind; the reported one may be among them, and is not counted.
OTHERS: dict[str, list[str]] = {
    name: [sql for kind, _, sql, *_ in [*HAZARDS, *HARMLESS] if kind == label]
    for name, label in {
        "fp_index_if_not_exists_known": "index-known",
        "fp_serial_to_integer": "serial",
        "fp_set_not_null_already": "not-null",
        "miss_add_column_if_not_exists_type": "add-column-if-not-exists",
        "miss_attach_partition_scan": "attach",
        "miss_create_table_references": "references",
        "miss_domain_column": "domain",
        "miss_drop_default_not_null_column": "drop-default",
        "miss_drop_function_used_by_older_images": "drop-function",
        "miss_drop_trigger": "drop-trigger",
        "miss_lock_chain_two_tables": "lock-chain",
        "miss_type_change_index_rebuild": "index-rebuild",
    }.items()
} | {
    "fp_enum_swap": [sql for _, sql, _ in MANY_REASONS],
    "unclear_self_reference": [sql for _, sql, _ in SELF_REFERENCES],
}


def sections(case: str) -> list[str]:
    """Return the texts of a history's files."""
    return re.split(r"^-- file: \w+\n", (CASES / f"{case}.sql").read_text(), flags=re.MULTILINE)[1:]


def lint_case(case: str, directory: Path) -> LintRun:
    """Lint a history as a native directory of migrations."""
    files = {f"{20250101000000 + number}_x.sql": text for number, text in enumerate(sections(case))}
    return run(write(directory, files))


@pytest.mark.parametrize("case", HISTORIES)
def test_a_report(case: str, tmp_path: Path) -> None:
    """The second file has the findings that the name asks for, and no other above advice; the first has none."""
    result = lint_case(case, tmp_path)
    reasons = [
        (finding["line"], reason["rule"])
        for finding in result.document["findings"]
        for reason in finding["reasons"]
        if reason["level"] != "advice"
    ]
    assert sorted(reasons) == WANTED[case]
    assert {path for path, _, _ in result.found()} <= {"20250101000001_x.sql"}
    assert "nodes and nodes" not in result.output


def test_a_directory_that_is_not_understood_is_not_green(tmp_path: Path) -> None:
    """`clear_no_files_is_green`: of the layout named there the files are read, and of an unknown one exit 2 says so."""
    assert "0 files" in (CASES / "clear_no_files_is_green.sql").read_text()
    layout = write(tmp_path / "known", {"20250101000000_a/migration.sql": "create index i on users (email);\n"})
    assert run(layout).found() == [("migration.sql", 1, "index-not-concurrent")]
    for name, files in {
        "empty": {},
        "other": {"20250101000000_a/forward.txt": "select 1;"},
        "nested": {"a/b/c/d.rb": "x"},
        "documents": {"README.md": "x"},
    }.items():
        result = run(write(tmp_path / name, files), output="text")
        assert result.code == 2, name
        assert "1 error, 0 warnings in 0 files" in result.output, name


@pytest.mark.parametrize("case", HISTORIES)
def test_each_kind_has_three_more(case: str) -> None:
    """Instances that differ from the reported one in more than names, blanks and letters' case."""
    reported = [normalized(text) for text in sections(case)]
    others = {normalized(sql) for sql in OTHERS[case]}
    assert len([sql for sql in others if not any(sql in text for text in reported)]) >= 3


def normalized(sql: str) -> str:
    """Return the words of SQL."""
    return " ".join(re.findall(r"\w+|[^\w\s]", sql.lower()))
