"""How many instances the tests have of each kind of field report, beside the reported one in `tests/cases`.

A kind is named by its number in the list of reports and by its folder there, or by what it is about. Each reference is
`FILE::TEST::ARGUMENT`, of which every value of the argument is an instance, or `FILE::TEST` for one instance. The file
is below tests, without `test_` and suffix.
"""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

TESTS = Path(__file__).parents[1]
ENOUGH = 3
KINDS: dict[str, list[str]] = {
    "1 marker-not-seen": [
        "integration/dbmate::what_is_nearly_a_marker_runs_nothing::marker",
        "unit/files_markers::a_comment_that_is_nearly_a_marker_is_a_problem::line",
        "unit/files_markers::a_marker_inside_quotes_is_a_problem::text",
    ],
    "1 prose is no marker": ["unit/files_markers::prose_and_strings_are_no_markers::line"],
    "2 pgservice-ignored": [
        "integration/address_psql::the_same_environment_leads_to_the_same_database::environment",
        "integration/address_psql::what_cannot_be_honoured_is_refused_by_name::environment",
    ],
    "3 temp-table-leak, session-authorization": [
        "integration/fresh_session::nothing_of_a_session_is_left_for_the_next_migration::what",
        "integration/fresh_session::nothing_of_a_python_migration_is_left::what",
    ],
    "4 temp-table-resume": ["integration/fresh_session::a_resume_does_not_go_on_without_what_the_session_had::what"],
    "5 lock-let-go": [
        "integration/lost_lock::a_migration_that_lets_go_of_the_lock_is_not_recorded::sql",
        "integration/lost_lock::the_ledger_refuses_a_session_without_the_lock::name",
    ],
    "6 python-exits": [
        "integration/lost_lock::a_python_migration_that_ends_the_run_has_failed::lines",
        "integration/lost_lock::a_python_module_that_exits_has_failed::line",
    ],
    "7 rls-hides-ledger": [
        "integration/hidden_rows::every_command_names_what_hides_the_rows::policy",
        "integration/hidden_rows::no_row_in_a_part::kind",
    ],
    "8 names-and-files: Unicode": ["integration/field_kinds::a_name_in_another_form_is_applied_once::name"],
    "8 names-and-files: line ends": ["integration/field_kinds::line_ends_alone_are_no_edit::case"],
    "8 names-and-files: skipped in silence": [
        "unit/files_native::a_file_that_was_meant_as_a_migration_is_not_skipped::name",
        "unit/files_native::a_name_is_printable_utf8::name",
    ],
    "9 copy-from-stdin-hang": [
        "integration/copy::copy_in_python::call",
        "integration/copy::a_dump_is_loaded::options",
        "integration/copy::a_row_that_fails",
        "integration/copy::rows_are_not_copied_twice",
        "integration/copy::down_copies_too",
    ],
    "9 commands of psql": [
        "integration/copy::what_needs_psql::statement",
        "unit/files_psql_syntax::what_needs_psql::sql",
    ],
    "10 eof-syntax-error, eof-traceback": ["integration/server_errors::a_section_that_ends_too_early::sql"],
    "10 wrong-file-blamed": [
        "integration/server_errors::a_row_that_cannot_be_written::damage",
        "integration/server_errors::the_line_of_an_error::sql",
    ],
    "11 dry-run-differs": [
        "integration/dry_run_differs::the_script_does_the_same::case",
        "integration/dry_run_differs::the_script_fails_where_up_does::case",
        "integration/dry_run_differs::what_up_would_refuse_makes_no_script::case",
    ],
    "12 setting-refused": ["integration/field_kinds::a_setting_that_the_server_refuses::refused"],
    "13 messages in another encoding": [
        "integration/field_kinds::a_message_in_an_encoding_of_the_session::encoding",
    ],
    "13 notices": [
        "integration/server_errors::notices_are_shown",
        "integration/server_errors::many_notices",
        "integration/sections_and_sessions::notices_of_a_second_attempt",
        "integration/sections_and_sessions::notices_after_a_reset_in_python",
    ],
    "14 directory-misread": [
        "integration/dialects_directories::what_a_tool_applies_is_what_is_declared::name",
        "integration/dialects_directories::what_a_tool_refuses_is_refused::name",
    ],
    "15 status-says-changed": [
        "unit/foreign_status::a_checksum_of_a_tool_is_not_compared::dialect",
        "unit/foreign_status::a_repeatable_migration_of_flyway_has_a_file",
        "unit/foreign_status::a_checkpoint_of_atlas_is_applied",
        "integration/dialects_directories::what_a_tool_applies_is_what_is_declared::name",
    ],
    "16 address-refused: parameters": [
        "unit/postgres_address::the_urls_of_other_clients_are_read::url",
        "unit/postgres_address::a_parameter_that_cannot_be_used_is_named::parameter",
    ],
    "16 address-refused: Secrets": [
        "unit/postgres_address_secrets::the_secrets_of_operators_are_read_as_they_are::secret",
    ],
    "17 live-lock-freed": ["integration/stale_locks::an_owner_outside_exec::name"],
    "17 app-name-killed": [
        "integration/stale_locks::a_killed_run_is_dead::name",
        "integration/stale_locks::a_statement_that_goes_on_is_ended::name",
        "integration/stale_locks::a_killed_first_run::name",
    ],
    "18 two-directories": [
        "unit/cli_directory::tools_with_one_directory::dialect",
        "unit/cli_directory::several_directories_are_one_list",
        "unit/cli_flags::directories_of_the_environment::text",
    ],
    "18 a flag given twice": ["unit/cli_flags::a_flag_that_takes_one_value_is_refused_twice::option"],
    "18 mjs": [
        "unit/cli_directory::modules_alone_are_migrations::extension",
        "unit/cli_directory::modules_beside_others_are_left_out_and_named",
    ],
    "19 nested-script": [
        "unit/tools_recognize::a_tool_is_recognised_by_its_command::command",
        "unit/tools_recognize::a_shell_runs_the_commands_of_its_text::text",
    ],
    "20 no-verify": [
        "unit/postgres_address::the_urls_of_other_clients_are_read::mode",
        "integration/address_tls::the_mode_decides_whether_tls_is_used",
    ],
    "20 rollback-expect": [
        "integration/exec_ledgers::a_rollback_is_run::expect",
        "integration/exec_ledgers::a_rollback_to_what_the_flag_says::expect",
        "unit/tools_recognize::a_command_that_goes_back::command",
    ],
    "20 status-needs-lock-table": ["integration/field_kinds::status_without_a_right_on_the_row_lock::dialect"],
    "20 a ledger in another table": ["integration/exec_ledgers::a_ledger_in_another_place::written"],
    "20 verify --dialect": ["integration/field_kinds::verify_of_a_tool::dialect"],
    "20 baseline of 001_init": ["integration/field_kinds::a_short_number_is_fourteen_digits_here::there"],
    "21 the page for Knex": [
        "integration/docs_foreign::what_is_shown_runs::name",
        "integration/knex_versions::the_page_names_the_versions",
    ],
    "beside: durations": ["unit/cli_durations::a_duration_is_read::text"],
    "beside: env files": ["unit/env_file::a_value_is_read::text"],
    "beside: options that dbmate ignores": [
        "unit/files_native::an_option_of_another_tool_is_left_out_and_kept_for_a_remark::option",
    ],
    "beside: permissions": ["integration/rights::a_migration_lacks_a_right::case"],
    "beside: help": ["unit/cli_help::help_shows_no_mark_of_its_source::path"],
}


def load(file: str) -> ModuleType:
    """Return a file of tests as a module."""
    folder, _, name = file.partition("/")
    identity = f"field_counts_{folder}_{name}"
    if identity not in sys.modules:
        spec = util.spec_from_file_location(identity, TESTS / folder / f"test_{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[identity] = util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[identity])
    return sys.modules[identity]


def count(reference: str) -> int:
    """Return how many instances a reference stands for."""
    file, _, rest = reference.partition("::")
    test, _, argument = rest.partition("::")
    function = getattr(load(file), f"test_{test}")
    if not argument:
        return 1
    for mark in getattr(function, "pytestmark", ()):
        names = mark.args[0] if mark.name == "parametrize" else ()
        if argument in (names.replace(" ", "").split(",") if isinstance(names, str) else names):
            return len(list(mark.args[1]))
    raise AssertionError(f"{reference}: the test has no such argument")


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_three_more_instances(kind: str) -> None:
    """Every reference is to a test that is there, and together they are enough."""
    counts = {reference: count(reference) for reference in KINDS[kind]}
    assert sum(counts.values()) >= ENOUGH, counts


def test_every_report_has_a_kind() -> None:
    """Each folder of `tests/cases` is named; those of lint are counted beside their test."""
    folders = {
        path.name for group in ("runner", "knex") for path in (TESTS / "cases" / group).iterdir() if path.is_dir()
    }
    named = " ".join(KINDS)
    assert {folder for folder in folders if folder not in named} == set()


if __name__ == "__main__":
    for name, references in KINDS.items():
        sys.stdout.write(f"{sum(map(count, references)):4}  {name}\n")
