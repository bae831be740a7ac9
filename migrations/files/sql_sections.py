"""The sections of an SQL migration: what follows its markers `-- migrate:up` and `-- migrate:down`.

Most files are simple, and the start of `migrate up` is timed: what only the others need is imported when it is needed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from migrations.core.migration import SectionBody, Undo
from migrations.files.positions import LineCounter, is_simple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.core.migration import AddProblem, Sections

_MARKER = re.compile(r"^--[ \t]*(?P<word>migrate:)(?P<section>\S*)[ \t]*(?P<options>.*?)[ \t\r]*$", re.MULTILINE)
_BLANKS = re.compile(r"(?:\s++|--[^\n\r]*+)*+")  # and line comments


def parse_sql(text: str, add_problem: AddProblem) -> Sections:
    """Return what a file declares.

    Args:
        text: The whole file.
        add_problem: Receives the line and the text of each problem.
    """
    markers = _markers(text, add_problem)
    line_at = LineCounter(text)
    sections: dict[str, SectionBody] = {}
    compatible_from, irreversible = None, False
    for number, marker in enumerate(markers, start=1):
        end = markers[number].start() if number < len(markers) else len(text)
        name, line = marker["section"], line_at(marker.start())
        if name not in {"up", "down"}:
            add_problem(line, f"expected `-- migrate:up` or `-- migrate:down`, got `migrate:{name}`")
        elif name in sections:
            add_problem(line, f"expected one {name} section, found another")
        else:
            irreversible = irreversible or (name == "down" and marker["options"] == "none")
            options, compatible = (SectionBody(None), None) if irreversible else _options(marker, line, add_problem)
            compatible_from = compatible_from or compatible
            sql = text[marker.end() : end]
            # Not by `dataclasses.replace`, which takes five times as long: every start parses every file.
            sections[name] = SectionBody(
                sql, line, options.transactional, options.lock_timeout, options.statement_timeout, options.unknown
            )
            _find_psql_syntax(sql, line, add_problem)
    if markers and (code := _find_code(text)) < markers[0].start():
        add_problem(line_at(code), "expected nothing but comments before `-- migrate:up`")
    if "up" not in sections:
        add_problem(1, "expected a line `-- migrate:up`, found none")
    elif not _has_statement(sections["up"]):
        add_problem(sections["up"].line, "expected a statement in the up section, found none")
    elif markers[0]["section"] == "down":
        add_problem(sections["down"].line, "expected the up section before the down section")
    down = sections.get("down")
    can_undo = down is not None and _has_statement(down)
    if down and can_undo and irreversible:
        add_problem(down.line, "expected no statement below `-- migrate:down none`; take out the statements, or `none`")
    undo = Undo.NONE if irreversible else Undo.MISSING if down is None else Undo.DECLARED
    return sections.get("up", SectionBody("")), down if can_undo else None, compatible_from, undo


def _options(marker: re.Match[str], line: int, add_problem: AddProblem) -> tuple[SectionBody, str | None]:
    """Return what a marker's options make of its section, and their `compatible-from`."""
    if not marker["options"]:
        return SectionBody(None), None
    from migrations.files.section_options import parse_options  # noqa: PLC0415 - few sections have options

    return parse_options(marker["section"], marker["options"], line, add_problem)


def _markers(text: str, add_problem: AddProblem) -> Sequence[re.Match[str]]:
    markers = list(_MARKER.finditer(text))
    if text.lower().count("migrate") == len(markers) and "+goose" not in text and _are_unquoted(text, markers):
        return markers
    from migrations.files.markers import check_markers  # noqa: PLC0415 - most files are simpler

    return check_markers(text, markers, add_problem)


def _are_unquoted(text: str, markers: Sequence[re.Match[str]]) -> bool:
    """Return whether the markers are certainly outside strings, block comments and COPY data."""
    if not markers:
        return True
    return is_simple(text, markers[-1].start()) and "\n\\." not in text


def _find_code(sql: str) -> int:
    """Return the offset of the first character outside blanks and comments; the length where there is none."""
    blanks = _BLANKS.match(sql)
    begin = blanks.end() if blanks else 0
    if not sql.startswith("/*", begin):
        return begin
    from migrations.files.lexer import find_code  # noqa: PLC0415 - as above

    return find_code(sql, begin)


def _has_statement(section: SectionBody) -> bool:
    sql = section.sql or ""
    return _find_code(sql) < len(sql)


def _find_psql_syntax(sql: str, line: int, add_problem: AddProblem) -> None:
    """Report what only psql could run; `line` is the line on which the SQL begins."""
    if "\\" not in sql and "copy" not in sql.lower():
        return  # nearly always, so the module need not be imported
    from migrations.files.psql_syntax import find_unsupported  # noqa: PLC0415

    for offset, problem in find_unsupported(sql):
        add_problem(line + sql.count("\n", 0, offset), problem)
