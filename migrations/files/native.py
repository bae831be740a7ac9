"""Loads a directory of migrations: every migration, or every problem with file and line.

A migration is `<14 digits>_<name>.sql` with `-- migrate:up` and `-- migrate:down` sections (dbmate's convention), or
`<14 digits>_<name>.py` with `async def up(connection)`. The order of migrations is that of their names.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from migrations.core.migration import FilesError, Migration, Problem, SectionBody
from migrations.core.revision import canonical

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    AddProblem = Callable[[int, str], None]  # line, text
    Parsed = tuple[SectionBody, SectionBody | None, str | None]  # up, down, compatible_from

_NAME = re.compile(r"\d{14}_[^\s+]+", re.ASCII)
_MARKER = re.compile(r"^--[ \t]*migrate:(?P<section>\S*)[ \t]*(?P<options>.*?)[ \t\r]*$", re.MULTILINE)
_NO_STATEMENT = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*\*/)*")  # whitespace and comments
_OPTIONS = {
    "up": "transaction:true, transaction:false, lock-timeout:2s, statement-timeout:30s, contract, "
    "compatible-from:REVISION",
    "down": "transaction:true, transaction:false, lock-timeout:2s, statement-timeout:30s",
}
_DURATION = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,3})?)(?P<unit>ms|s|min|h)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_TIMEOUTS = {"lock-timeout": "lock_timeout", "statement-timeout": "statement_timeout"}  # option: Python constant
_SUFFIXES = (".sql", ".py")
Constant = TypeVar("Constant")


def load_directory(directory: Path) -> tuple[Migration, ...]:
    """Load every migration of a directory, in order; other kinds of files, `_*` and `.*` are ignored.

    Raises:
        FilesError: With every problem of every file.
    """
    if not directory.is_dir():
        raise FilesError(
            [Problem(str(directory), 0, "expected a directory of migrations, found none; name it with --dir")]
        )
    found: dict[str, Migration] = {}
    problems: list[Problem] = []
    for path in _migration_files(directory):
        try:
            migration = parse(path, path.read_bytes())
        except FilesError as error:
            problems += error.problems
            continue
        other = found.setdefault(migration.revision, migration)
        if other is not migration:
            problems.append(Problem(str(path), 0, f"expected a revision of its own, but {other.path.name} has it too"))
    if problems:
        raise FilesError(problems)
    return tuple(found[revision] for revision in sorted(found))


def list_revisions(directory: Path) -> tuple[str, ...]:
    """Return the name of every migration of a directory, in order.

    Raises:
        FilesError: With every problem of every file.
    """
    return tuple(migration.revision for migration in load_directory(directory))


def _migration_files(directory: Path) -> list[Path]:
    named = [path for path in directory.iterdir() if path.name.endswith(_SUFFIXES) and path.name[0] not in "_."]
    return sorted((path for path in named if path.is_file()), key=lambda path: path.name)


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
        problems.append(Problem(str(path), line, text))

    revision = canonical(path.name)
    if _NAME.fullmatch(revision) is None:
        add_problem(
            0, "expected a name like 20250126120000_add_users.sql: 14 digits, '_' and a name without blanks or '+'"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        add_problem(content.count(b"\n", 0, error.start) + 1, "expected UTF-8 text")
        raise FilesError(problems) from error
    if "\0" in text:
        add_problem(_line(text, text.index("\0")), "expected text, found a NUL byte")
    up, down, compatible_from = _python(text, add_problem) if path.suffix == ".py" else _sql(text, add_problem)
    if compatible_from is not None and compatible_from > revision:
        add_problem(up.line, f"expected a compatible-from of this revision or an older one, got {compatible_from}")
    if problems:
        raise FilesError(problems)
    return Migration(revision, path, hashlib.sha256(content).hexdigest(), up, down, compatible_from)


def _sql(text: str, add_problem: AddProblem) -> Parsed:
    markers = list(_MARKER.finditer(text))
    sections: dict[str, SectionBody] = {}
    compatible_from = None
    for number, marker in enumerate(markers, start=1):
        end = markers[number].start() if number < len(markers) else len(text)
        name, line = marker["section"], _line(text, marker.start())
        if name not in {"up", "down"}:
            add_problem(line, f"expected `-- migrate:up` or `-- migrate:down`, got `migrate:{name}`")
        elif name in sections:
            add_problem(line, f"expected one {name} section, found another")
        else:
            options, compatible = _options(marker, line, add_problem)
            compatible_from = compatible_from or compatible
            sections[name] = replace(options, sql=text[marker.end() : end], line=line)
            _find_psql_syntax(text[marker.end() : end], line, add_problem)
    comments = _NO_STATEMENT.match(text)
    if markers and comments and comments.end() < markers[0].start():
        add_problem(_line(text, comments.end()), "expected nothing but comments before `-- migrate:up`")
    if "up" not in sections:
        add_problem(1, "expected a line `-- migrate:up`, found none")
    elif _NO_STATEMENT.fullmatch(sections["up"].sql or ""):
        add_problem(sections["up"].line, "expected a statement in the up section, found none")
    elif markers[0]["section"] == "down":
        add_problem(sections["down"].line, "expected the up section before the down section")
    down = sections.get("down")
    can_undo = down is not None and _NO_STATEMENT.fullmatch(down.sql or "") is None
    return sections.get("up", SectionBody("")), down if can_undo else None, compatible_from


def _find_psql_syntax(sql: str, line: int, add_problem: AddProblem) -> None:
    """Report what only psql could run; `line` is that of the section's first character."""
    if "\\" not in sql and "copy" not in sql.lower():
        return  # nearly always, so the module need not be imported
    from migrations.files.psql_syntax import find_unsupported  # noqa: PLC0415

    for offset, problem in find_unsupported(sql):
        add_problem(line + sql.count("\n", 0, offset), problem)


def _options(marker: re.Match[str], line: int, add_problem: AddProblem) -> tuple[SectionBody, str | None]:
    """Parse what follows `migrate:up` or `migrate:down`; return the section without its SQL, and `compatible_from`."""
    section, contract, compatible_from = SectionBody(None), False, None
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
        else:
            add_problem(line, f"expected one of the options {_OPTIONS[marker['section']]}, got {option!r}")
    if contract is (compatible_from is None):
        add_problem(line, "expected `contract` and `compatible-from:REVISION` together, found one of them")
    return section, compatible_from


def _with_timeout(section: SectionBody, option: str, seconds: float) -> SectionBody:
    if option == "lock-timeout":
        return replace(section, lock_timeout=seconds)
    return replace(section, statement_timeout=seconds)


def _seconds(duration: str) -> float | None:
    """Parse a duration such as 500ms, 2s, 1min or 0, the only one without a unit; None when it is malformed."""
    match = _DURATION.fullmatch(duration)
    if match is None or (match["unit"] is None and float(match["number"])):
        return None
    return float(match["number"]) * _SECONDS[match["unit"] or "s"]


def _python(text: str, add_problem: AddProblem) -> Parsed:
    """Read what a module declares, without running it: a plan is made before anything is executed."""
    import ast  # noqa: PLC0415 - most directories hold SQL only

    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        add_problem(error.lineno or 1, f"expected Python: {error.msg}")
        return SectionBody(None), None, None
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for name, node in functions.items():
        if name in {"up", "down"} and not (isinstance(node, ast.AsyncFunctionDef) and len(node.args.args) == 1):
            add_problem(node.lineno, f"expected `async def {name}(connection)`")
    if "up" not in functions:
        add_problem(1, "expected `async def up(connection)`, found none")
    constants = {
        target.id: node.value
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
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
    return sections[0] or SectionBody(None), sections[1], canonical(compatible_from) if compatible_from else None


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
