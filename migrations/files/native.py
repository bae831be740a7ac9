"""Loads a directory of migrations: every migration, or every problem with file and line.

A migration is `<14 digits>_<name>.sql` with `-- migrate:up` and `-- migrate:down` sections (dbmate's convention), or
`<14 digits>_<name>.py` with `async def up(connection)`. Migrations are ordered by their names.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from migrations.core.migration import FilesError, Migration, Problem, SectionBody, Undo
from migrations.core.revision import canonical

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Sequence
    from pathlib import Path

    AddProblem = Callable[[int, str], None]  # line, text
    Parsed = tuple[SectionBody, SectionBody | None, str | None, Undo]  # up, down, compatible_from, undo

_NAME = re.compile(r"\d{14}_[^\s+]+", re.ASCII)
MARKER_WORD = "migrate:"
_MARKER = re.compile(rf"^--[ \t]*{MARKER_WORD}(?P<section>\S*)[ \t]*(?P<options>.*?)[ \t\r]*$", re.MULTILINE)
# Text whose quotes end at the next delimiter: without escapes, tagged dollar quotes and block comments.
_SIMPLE = re.compile(
    r"(?:[^'\"$\\/-]++|'[^'\\]*+'|\"[^\"]*+\"|--[^\n\r]*+|/(?!\*)|-(?!-)"
    r"|(?<![^\x00-#%-/:-@\[-^`{-\x7f])\$\$(?:[^$]++|\$(?!\$))*+\$\$)*+"  # not in or at the end of an identifier
)
_BLANKS = re.compile(r"(?:\s++|--[^\n\r]*+)*+")  # and line comments
_OPTIONS = {
    "up": "transaction:true, transaction:false, lock-timeout:2s, statement-timeout:30s, contract, "
    "compatible-from:REVISION",
    "down": "transaction:true, transaction:false, lock-timeout:2s, statement-timeout:30s, none",
}
# The two patterns that are plain strings are needed for few directories. `re` compiles and caches them on first use:
# compiling them at import would cost every start 0.3 ms.
_DURATION = r"(?P<number>[0-9]{1,9}(\.[0-9]{1,3})?)(?P<unit>ms|s|min|h)?"
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_TIMEOUTS = {"lock-timeout": "lock_timeout", "statement-timeout": "statement_timeout"}  # option: Python constant
_SUFFIXES = (".sql", ".py")
# Other names that were probably meant as migrations: `.SQL`, Windows' hidden `.sql.txt`, and SQL with a timestamp.
_MEANT_AS_MIGRATION = r"(?i)\.(?:sql|py)(?:\.txt)?[\s.]*\Z|\A\d{14}_[^.]*(?:\.(?:psql|pgsql|plsql|ddl))?\Z"
Constant = TypeVar("Constant")


def load_directory(directory: Path) -> tuple[Migration, ...]:
    """Load every migration of a directory, in order; other kinds of files, `_*` and `.*` are ignored.

    Raises:
        FilesError: With every problem of every file, and every file that was meant as a migration but is not named as
            one.
    """
    if not directory.is_dir():
        raise FilesError(
            [Problem(str(directory), 0, "expected a directory of migrations, found none; name it with --dir")]
        )
    found: dict[str, Migration] = {}
    problems: list[Problem] = []
    for path in _migration_files(directory, problems):
        try:
            migration = parse(path, path.read_bytes())
        except OSError as error:
            problems.append(Problem(_shown(path), 0, f"expected a file that can be read: {error.strerror}"))
            continue
        except FilesError as error:
            problems += error.problems
            continue
        other = found.setdefault(migration.revision, migration)
        if other is not migration:
            form = "" if path.name.isascii() else ", perhaps in another Unicode form"
            text = f"expected a revision of its own, but {other.path.name} has it too{form}"
            problems.append(Problem(str(path), 0, text))
    if problems:
        raise FilesError(problems)
    return tuple(found[revision] for revision in sorted(found))


def list_revisions(directory: Path) -> tuple[str, ...]:
    """Return the name of every migration of a directory, in order.

    Raises:
        FilesError: With every problem of every file.
    """
    return tuple(migration.revision for migration in load_directory(directory))


def _migration_files(directory: Path, problems: list[Problem]) -> list[Path]:
    """Return the files to parse, in the order of their names; add a problem for each that was meant as one."""
    try:
        with os.scandir(directory) as entries:
            named = sorted((entry for entry in entries if entry.name[0] not in "_."), key=lambda entry: entry.name)
    except OSError as error:
        raise FilesError([Problem(_shown(directory), 0, f"expected a readable directory: {error.strerror}")]) from error
    paths = []
    for entry in named:
        path = directory / entry.name
        try:
            if entry.name.endswith(_SUFFIXES):
                if entry.is_file():
                    paths.append(path)
                else:
                    problems.append(Problem(_shown(path), 0, _describe_no_file(path)))
            elif re.search(_MEANT_AS_MIGRATION, entry.name) and (entry.is_file() or entry.is_symlink()):
                text = "expected a name with `.sql` or `.py` at its end, in small letters; rename it or put `_` first"
                problems.append(Problem(_shown(path), 0, text))
        except OSError as error:  # such as a link that leads to itself
            problems.append(Problem(_shown(path), 0, f"expected a file that can be read: {error.strerror}"))
    return paths


def _describe_no_file(path: Path) -> str:
    if path.is_dir():
        what = "a directory, as a mount makes it whose source is missing"
    elif path.is_symlink():
        what = f"a link to {_shown(path.readlink())}, which does not exist"
    else:
        what = "something else"
    return f"expected a file, found {what}; put the migration there, or take it away"


def _is_control(character: str) -> bool:
    """Return whether it is a control character, or a lone surrogate: Python's stand-in for a byte that is not UTF-8."""
    return character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff"


def _shown(path: Path | str) -> str:
    """Return a path as it can be printed, with escapes for bytes of a name that are not UTF-8."""
    text = str(path)
    return text if text.isascii() else os.fsencode(text).decode("utf-8", "backslashreplace")


def parse(path: Path, content: bytes) -> Migration:
    """Parse one migration.

    Args:
        path: The file; only its name is used.
        content: Its bytes.

    Raises:
        FilesError: With every problem of the file.
    """
    problems: list[Problem] = []

    def add_problem(line: int, text: str) -> None:
        problems.append(Problem(_shown(path), line, text))

    revision = canonical(path.name)
    if _NAME.fullmatch(revision) is None:
        add_problem(
            0, "expected a name like 20250126120000_add_users.sql: 14 digits, '_' and a name without blanks or '+'"
        )
    elif not revision.isprintable() and any(map(_is_control, revision)):
        add_problem(0, "expected a name in UTF-8 without control characters; rename the file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = ", found UTF-16, as PowerShell's `>` writes it" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else ""
        add_problem(content.count(b"\n", 0, error.start) + 1, f"expected UTF-8 text{found}; save the file as UTF-8")
        raise FilesError(problems) from error
    if "\0" in text:
        add_problem(LineCounter(text)(text.index("\0")), "expected text, found a NUL byte")
    up, down, compatible_from, undo = _python(text, add_problem) if path.suffix == ".py" else _sql(text, add_problem)
    if compatible_from is not None and compatible_from > revision:
        add_problem(up.line, f"expected a compatible-from of this revision or an older one, got {compatible_from}")
    if problems:
        raise FilesError(problems)
    return Migration(revision, path, hashlib.sha256(content).hexdigest(), up, down, compatible_from, undo, content)


def _sql(text: str, add_problem: AddProblem) -> Parsed:
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


def _markers(text: str, add_problem: AddProblem) -> Sequence[re.Match[str]]:
    markers = list(_MARKER.finditer(text))
    if text.lower().count("migrate") == len(markers) and "+goose" not in text and _are_unquoted(text, markers):
        return markers
    from migrations.files.markers import check_markers  # noqa: PLC0415 - most files are simpler, and the start is timed

    return check_markers(text, markers, add_problem)


def _are_unquoted(text: str, markers: Sequence[re.Match[str]]) -> bool:
    """Return whether the markers are certainly outside strings, block comments and COPY data."""
    if not markers:
        return True
    return is_simple(text, markers[-1].start()) and "\n\\." not in text


def is_simple(sql: str, end: int) -> bool:
    """Return whether the text before an offset is so simple that the offset is certainly not inside quotes.

    This takes a tenth of the time of `lexer.regions`. After False, the offset may still be outside quotes.
    """
    simple = _SIMPLE.match(sql, 0, end)
    return simple is not None and simple.end() == end


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


def _options(marker: re.Match[str], line: int, add_problem: AddProblem) -> tuple[SectionBody, str | None]:
    """Parse what follows `migrate:up` or `migrate:down`; return the section without its SQL, and `compatible_from`."""
    section, contract, compatible_from = SectionBody(None), False, None
    if not marker["options"]:
        return section, None
    for option in marker["options"].split():
        name, _, value = option.partition(":")
        if name == "transaction" and value in {"true", "false"}:
            section = replace(section, transactional=value == "true")
        elif name in _TIMEOUTS and (seconds := _seconds(value)) is not None:
            section = _with_timeout(section, name, seconds)
        elif option == "contract" and marker["section"] == "up":
            contract = True
        elif name == "compatible-from" and value and marker["section"] == "up":
            compatible_from = canonical(value)
        elif _is_of_another_tool(name):
            section = replace(section, unknown=(*section.unknown, option))
        else:
            add_problem(line, f"expected one of the options {_OPTIONS[marker['section']]}, got {option!r}")
    if contract is (compatible_from is None):
        add_problem(line, "expected `contract` and `compatible-from:REVISION` together, found one of them")
    return section, compatible_from


def _is_of_another_tool(name: str) -> bool:
    from migrations.files.markers import resembles_option  # noqa: PLC0415 - few files have such an option

    return not resembles_option(name, " ".join(_OPTIONS.values()))


def _with_timeout(section: SectionBody, option: str, seconds: float) -> SectionBody:
    if option == "lock-timeout":
        return replace(section, lock_timeout=seconds)
    return replace(section, statement_timeout=seconds)


def _seconds(duration: str) -> float | None:
    """Parse a duration such as 500ms, 2s, 1min or 0, the only one without a unit; None when it is malformed."""
    match = re.fullmatch(_DURATION, duration, re.ASCII)
    if match is None or (match["unit"] is None and float(match["number"])):
        return None
    return float(match["number"]) * _SECONDS[match["unit"] or "s"]


def _python(text: str, add_problem: AddProblem) -> Parsed:
    """Read what a module declares, without running it: a plan is made before anything is executed."""
    import ast  # noqa: PLC0415 - most directories hold SQL only

    body = _parse_python(text, add_problem)
    if body is None:
        return SectionBody(None), None, None, Undo.DECLARED
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for name, node in functions.items():
        if name in {"up", "down"} and not (isinstance(node, ast.AsyncFunctionDef) and len(node.args.args) == 1):
            add_problem(node.lineno, f"expected `async def {name}(connection)`")
    if "up" not in functions:
        add_problem(1, "expected `async def up(connection)`, found none")
    constants = {
        target.id: node.value
        for node in body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }

    def constant(name: str, kind: type[Constant], example: str, default: Constant | None) -> Constant | None:
        node = constants.get(name)
        value = node.value if isinstance(node, ast.Constant) else None
        if node is not None and not isinstance(value, kind):
            add_problem(node.lineno, f"expected `{name} = {example}`, a plain constant")
        return value if isinstance(value, kind) else default

    transactional = constant("transaction", bool, "False", default=True) is not False
    compatible_from = constant("compatible_from", str, '"REVISION"', default=None)
    section = SectionBody(None, transactional=transactional)
    for option, name in _TIMEOUTS.items():
        value = constant(name, str, '"2s"', default=None)
        seconds = None if value is None else _seconds(value)
        if seconds is not None:
            section = _with_timeout(section, option, seconds)
        elif value is not None:
            add_problem(
                constants[name].lineno, f'expected `{name} = "2s"`, or another time in ms, s, min or h; got {value!r}'
            )
    sections = [replace(section, line=functions[name].lineno) if name in functions else None for name in ("up", "down")]
    declared = constants.get("down")
    is_none = isinstance(declared, ast.Constant) and declared.value is None
    undo = Undo.DECLARED if "down" in functions else Undo.NONE if is_none else Undo.MISSING
    return sections[0] or SectionBody(None), sections[1], canonical(compatible_from) if compatible_from else None, undo


def _parse_python(text: str, add_problem: AddProblem) -> list[ast.stmt] | None:
    import ast  # noqa: PLC0415 - as above
    import warnings  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as about an invalid escape: it would not name the file
            return ast.parse(text).body
    except SyntaxError as error:
        add_problem(error.lineno or 1, f"expected Python: {error.msg}")
    except (RecursionError, MemoryError):
        add_problem(1, "expected Python that can be parsed, found code that is nested too deeply")
    except ValueError as error:
        add_problem(1, f"expected Python: {error}")
    return None


class LineCounter:
    """Counts lines up to offsets of a text; offsets that ascend take linear time together."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._offset, self._line = 0, 1

    def __call__(self, offset: int) -> int:
        """Return the line, from 1, that has the character at an offset."""
        if offset < self._offset:
            self._offset, self._line = 0, 1
        self._line += self._text.count("\n", self._offset, offset)
        self._offset = offset
        return self._line
