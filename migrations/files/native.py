"""Reads a directory of migrations: all of them, or every problem with file and line.

A migration is `<14 digits>_<name>.sql` with `-- migrate:up` and `-- migrate:down` sections (dbmate's convention), or
`<14 digits>_<name>.py` with `async def up(connection)`. File order is name order.
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

    Report = Callable[[int, str], None]
    Parsed = tuple[SectionBody, SectionBody | None, str | None]

_NAME = re.compile(r"\d{14}_[^\s+]+", re.ASCII)
_MARKER = re.compile(r"^--[ \t]*migrate:(?P<section>\S*)[ \t]*(?P<options>.*?)[ \t\r]*$", re.MULTILINE)
_NOTHING = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*\*/)*")  # blanks and comments
_OPTIONS = {
    "up": "transaction:true, transaction:false, lock-timeout:2s, statement-timeout:30s, contract, "
    "compatible-from:REVISION",
    "down": "transaction:true, transaction:false, lock-timeout:2s, statement-timeout:30s",
}
_DURATION = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,3})?)(?P<unit>ms|s|min|h)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_LIMITS = {"lock-timeout": "lock_timeout", "statement-timeout": "statement_timeout"}  # option, constant
Constant = TypeVar("Constant")
_SUFFIXES = (".sql", ".py")


def load_directory(directory: Path) -> tuple[Migration, ...]:
    """Read every migration of a directory, in order; files of other kinds, `_*` and `.*` do not count.

    Raises:
        FilesError: With every problem of every file.
    """
    if not directory.is_dir():
        raise FilesError(
            [Problem(str(directory), 0, "expected a directory of migrations, found none; name it with --dir")]
        )
    found: dict[str, Migration] = {}
    problems: list[Problem] = []
    for path in _paths(directory):
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


def _paths(directory: Path) -> list[Path]:
    counted = [path for path in directory.iterdir() if path.name.endswith(_SUFFIXES) and path.name[0] not in "_."]
    return sorted((path for path in counted if path.is_file()), key=lambda path: path.name)


def parse(path: Path, content: bytes) -> Migration:
    """Read one migration.

    Args:
        path: The file, for its name and suffix.
        content: Its bytes.

    Raises:
        FilesError: With every problem of it.
    """
    problems: list[Problem] = []

    def report(line: int, text: str) -> None:
        problems.append(Problem(str(path), line, text))

    revision = canonical(path.name)
    if _NAME.fullmatch(revision) is None:
        report(0, "expected a name like 20250126120000_add_users.sql: 14 digits, '_' and a name without blanks or '+'")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        report(content.count(b"\n", 0, error.start) + 1, "expected UTF-8 text")
        raise FilesError(problems) from error
    if "\0" in text:
        report(_line(text, text.index("\0")), "expected text, found a NUL byte")
    up, down, compatible_from = _python(text, report) if path.suffix == ".py" else _sql(text, report)
    if compatible_from is not None and compatible_from > revision:
        report(up.line, f"expected a compatible-from of this revision or an older one, got {compatible_from}")
    if problems:
        raise FilesError(problems)
    return Migration(revision, path, hashlib.sha256(content).hexdigest(), up, down, compatible_from)


def _sql(text: str, report: Report) -> Parsed:
    markers = list(_MARKER.finditer(text))
    scripts: dict[str, SectionBody] = {}
    compatible_from = None
    for number, marker in enumerate(markers, start=1):
        end = markers[number].start() if number < len(markers) else len(text)
        section, line = marker["section"], _line(text, marker.start())
        if section not in {"up", "down"}:
            report(line, f"expected `-- migrate:up` or `-- migrate:down`, got `migrate:{section}`")
        elif section in scripts:
            report(line, f"expected one {section} section, found another")
        else:
            options, compatible = _options(marker, line, report)
            compatible_from = compatible_from or compatible
            scripts[section] = replace(options, sql=text[marker.end() : end], line=line)
    start = _NOTHING.match(text)
    if markers and start and start.end() < markers[0].start():
        report(_line(text, start.end()), "expected nothing but comments before `-- migrate:up`")
    if "up" not in scripts:
        report(1, "expected a line `-- migrate:up`, found none")
    elif _NOTHING.fullmatch(scripts["up"].sql or ""):
        report(scripts["up"].line, "expected a statement in the up section, found none")
    elif markers[0]["section"] == "down":
        report(scripts["down"].line, "expected the up section before the down section")
    down = scripts.get("down")
    undoes = down is not None and _NOTHING.fullmatch(down.sql or "") is None
    return scripts.get("up", SectionBody("")), down if undoes else None, compatible_from


def _options(marker: re.Match[str], line: int, report: Report) -> tuple[SectionBody, str | None]:
    script, contract, compatible_from = SectionBody(None), False, None
    for option in marker["options"].split():
        name, _, value = option.partition(":")
        if name == "transaction" and value in {"true", "false"}:
            script = replace(script, transactional=value == "true")
        elif name in _LIMITS and (seconds := _seconds(value)) is not None:
            script = _limited(script, name, seconds)
        elif option == "contract" and marker["section"] == "up":
            contract = True
        elif name == "compatible-from" and value and marker["section"] == "up":
            compatible_from = canonical(value)
        else:
            report(line, f"expected one of the options {_OPTIONS[marker['section']]}, got {option!r}")
    if contract is (compatible_from is None):
        report(line, "expected `contract` and `compatible-from:REVISION` together, found one of them")
    return script, compatible_from


def _limited(script: SectionBody, option: str, seconds: float) -> SectionBody:
    if option == "lock-timeout":
        return replace(script, lock_timeout=seconds)
    return replace(script, statement_timeout=seconds)


def _seconds(duration: str) -> float | None:
    """Read a duration like 500ms, 2s, 1min or 0; None when it is none. Without a unit it needs to be 0."""
    match = _DURATION.fullmatch(duration)
    if match is None or (match["unit"] is None and float(match["number"])):
        return None
    return float(match["number"]) * _SECONDS[match["unit"] or "s"]


def _python(text: str, report: Report) -> Parsed:
    """Read what a module declares without running it."""
    import ast  # noqa: PLC0415 - most directories hold SQL only

    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        report(error.lineno or 1, f"expected Python: {error.msg}")
        return SectionBody(None), None, None
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for name, node in functions.items():
        if name in {"up", "down"} and not (isinstance(node, ast.AsyncFunctionDef) and len(node.args.args) == 1):
            report(node.lineno, f"expected `async def {name}(connection)`")
    if "up" not in functions:
        report(1, "expected `async def up(connection)`, found none")
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
            report(node.lineno, f"expected `{name} = {example}`, a plain constant")
        return value if isinstance(value, kind) else default

    transactional = constant("transaction", bool, "False", default=True) is not False
    compatible_from = constant("compatible_from", str, '"REVISION"', default=None)
    usual = SectionBody(None, transactional=transactional)
    for option, name in _LIMITS.items():
        given = constant(name, str, '"2s"', default=None)
        seconds = None if given is None else _seconds(given)
        if seconds is not None:
            usual = _limited(usual, option, seconds)
        elif given is not None:
            report(
                constants[name].lineno, f'expected `{name} = "2s"`, or another time in ms, s, min or h; got {given!r}'
            )
    scripts = [replace(usual, line=functions[name].lineno) if name in functions else None for name in ("up", "down")]
    return scripts[0] or SectionBody(None), scripts[1], canonical(compatible_from) if compatible_from else None


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
