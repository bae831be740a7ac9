"""The sections of a Python migration: its functions `up` and `down`, and the constants beside them."""

from __future__ import annotations

import ast
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from migrations.core.migration import SectionBody, Undo
from migrations.core.revision import canonical
from migrations.files.section_options import TIMEOUTS, parse_seconds, with_timeout

if TYPE_CHECKING:
    from migrations.core.migration import AddProblem, Sections

Constant = TypeVar("Constant")


def parse_python(text: str, add_problem: AddProblem) -> Sections:
    """Return what a module declares, without running it: a plan is made before anything is executed.

    Args:
        text: The whole file.
        add_problem: Receives the line and the text of each problem.
    """
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
    for option, name in TIMEOUTS.items():
        value = constant(name, str, '"2s"', default=None)
        seconds = None if value is None else parse_seconds(value)
        if seconds is not None:
            section = with_timeout(section, option, seconds)
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
