"""Recognizing the migration tool that a command line starts, and what it is to do."""

from __future__ import annotations

import os
import re
import shlex
from types import MappingProxyType
from typing import TYPE_CHECKING

from migrations.dialects.catalogue import CONCRETE_DIALECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Script = Callable[[str], str | None]

_DIALECTS: Mapping[str, str] = MappingProxyType(
    {program: dialect.name for dialect in CONCRETE_DIALECTS for program in dialect.programs}
)
"""Name of the dialect that each program writes."""
_SHELLS = frozenset(("sh", "ash", "bash", "busybox", "dash", "ksh", "zsh"))
_RUNTIMES = frozenset(("bun", "deno", "node", "nodejs", "ts-node", "ts-node-esm", "tsx"))
_PACKAGE_MANAGERS = frozenset(("bun", "npm", "pnpm", "yarn"))
_RUNNERS = frozenset(("bunx", "npx", "pnpx"))
_INTERPRETERS = frozenset(("bundle", "mix", "pdm", "pipenv", "poetry", "py", "python", "uv", "uvx"))
_STARTERS = frozenset(
    ("command", "cross-env", "cross-env-shell", "doas", "dotenv", "dotenvx", "dumb-init", "env", "env-cmd", "exec")
) | frozenset(("nice", "nohup", "sudo", "time", "timeout", "tini"))
"""Programs that start another program and are in no other set."""
_BETWEEN = frozenset(("dlx", "exec", "run", "run-script", "x"))
"""Words between a starter and the program."""
_ELSEWHERE = frozenset(("-C", "-F", "-w", "--cwd", "--dir", "--filter", "--prefix", "--workspace"))
"""Flags of package managers by which the script comes from another package.json."""
_WITH_VALUE = _ELSEWHERE | frozenset(
    ("-c", "-e", "-f", "-m", "-n", "-p", "-r", "-u", "--env-file", "--import", "--loader", "--package", "--require")
)
"""Flags of starters that take a value. The value is no program, except that of Python's `-m`."""
_GOLANG = "migrate"
_GOLANG_FLAG = re.compile(r"--?(?:path|source|database)(?:=.*)?")
_SEPARATORS = frozenset(("&&", "||", "|", ";", "&", "(", ")", ";;", "|&"))
_PYTHON = re.compile(r"python[0-9.]*")
_PACKAGE = re.compile(
    r"(?:.*/)?node_modules/(?!\.)(?:@[^/]+/)?(?P<package>[^/]+)/.+|(?:.*/)?(?P<tool>[^/]+)/bin/cli\.[cm]?js"
)
_BACKWARD = re.compile(
    r"(?:.*[:.])?(?:down|downgrade|rollback|undo|revert|redo|reset|drop|unlock|force)(?:[:-][\w:-]*)?", re.IGNORECASE
)
_MAX_DEPTH = 6  # scripts that run scripts; a deeper one runs itself


def recognize_dialect(command: Sequence[str], script: Script) -> str | None:
    """Return the name of the dialect that the command writes; None where the command line does not show exactly one.

    Depends on the command line alone, not on the database: the lock's key follows from the answer, and every run of the
    same command must take the same lock.

    Args:
        command: The program and its arguments.
        script: Returns a script of package.json by its name, for `npm run NAME`; None where there is none.
    """
    found = {dialect for words in _resolve(list(command), script, 0) if (dialect := _dialect(words)) is not None}
    return found.pop() if len(found) == 1 else None


def goes_back(command: Sequence[str], script: Script) -> bool:
    """Return whether the command undoes migrations, or settles something by hand, instead of applying what is pending.

    Args:
        command: The program and its arguments.
        script: As in `recognize_dialect`.
    """
    commands = [list(command), *_resolve(list(command), script, 0)]
    return any(_BACKWARD.fullmatch(word) for words in commands for word in words[1:])


def _dialect(words: Sequence[str]) -> str | None:
    name = _name(words[0])
    if name == _GOLANG and not any(map(_GOLANG_FLAG.fullmatch, words)):
        return None  # many programs and scripts have this name; golang-migrate needs one of its flags
    return _DIALECTS.get(name)


def _resolve(words: list[str], script: Script, depth: int) -> Iterator[list[str]]:
    """Yield the commands that a command line runs, each without the programs that only start it."""
    words = words[next((place for place, word in enumerate(words) if not _is_assignment(word)), len(words)) :]
    if not words or depth > _MAX_DEPTH:
        return
    name, rest = _name(words[0]), words[1:]
    if name in _SHELLS:
        yield from _resolve_shell(rest, script, depth)
    elif name in _PACKAGE_MANAGERS and (named := _script_name(rest)) is not None:
        yield from _resolve_script(*named, rest, script, depth)
    elif name in _RUNTIMES:
        rest = _program_first(rest)
        package = _PACKAGE.fullmatch(rest[0]) if rest else None
        if package:
            rest = [package["package"] or package["tool"], *rest[1:]]
        # A script named `migrate` is the user's own, or node-migrate.
        if rest and _name(rest[0]) in _DIALECTS and _name(rest[0]) != _GOLANG:
            yield rest
    elif name in {"py", "python"} and _name("".join(_program_first(rest)[:1])) == _GOLANG:
        return  # the user's own script too
    elif name in _STARTERS | _RUNNERS | _INTERPRETERS | _PACKAGE_MANAGERS:
        yield from _resolve(_program_first(rest), script, depth + 1)
    elif name not in _DIALECTS and "--" in rest:  # such as `doppler run -- knex …`
        yield from _resolve(rest[rest.index("--") + 1 :], script, depth + 1)
    else:
        yield [name, *rest]


def _resolve_shell(words: list[str], script: Script, depth: int) -> Iterator[list[str]]:
    """Yield the commands of `sh -c TEXT`; a file of commands is not read."""
    for place, word in enumerate(words):
        if re.fullmatch(r"-[a-z]*c", word):
            for part in _split(" ".join(words[place + 1 : place + 2])):
                yield from _resolve(part, script, depth + 1)
            return
        if not word.startswith("-") and word not in _SHELLS:
            return


def _script_name(words: list[str]) -> tuple[str, bool] | None:
    """Return the name that a package manager runs, and whether it can only be a script; None where it is a program.

    `yarn NAME` and `bun NAME` run a script or a program, `npm run NAME` a script only.
    """
    names = _without_flags(words)
    if not names or names[0] in {"exec", "x", "dlx"}:
        return None
    if names[0] in {"run", "run-script"}:
        return (names[1], True) if len(names) > 1 else None
    return names[0], False


def _resolve_script(name: str, is_script: bool, words: list[str], script: Script, depth: int) -> Iterator[list[str]]:
    if not _ELSEWHERE.isdisjoint(word.partition("=")[0] for word in words):
        return  # the script belongs to another package
    if script(name) is None:
        if not is_script:
            yield from _resolve(_program_first(words), script, depth + 1)
        return
    for each in (f"pre{name}", name, f"post{name}"):
        for part in _split(script(each) or ""):
            yield from _resolve(part, script, depth + 1)


def _split(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell's text."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    part: list[str] = []
    try:
        for word in lexer:
            if word in _SEPARATORS:
                yield part
                part = []
            else:
                part.append(word)
    except ValueError:  # a quote that does not end
        return
    yield part


def _program_first(words: list[str]) -> list[str]:
    """Drop the flags, values and words that stand before a program."""
    while words:
        word = words[0]
        if word == "--":
            return words[1:]
        if word == "-m" and len(words) > 1:
            return words[1:]
        if word in _WITH_VALUE:
            words = words[2:]
        elif word.startswith("-") or _is_assignment(word) or word in _BETWEEN or re.fullmatch(r"[0-9.]+[smhd]?", word):
            words = words[1:]
        else:
            return words
    return words


def _without_flags(words: list[str]) -> list[str]:
    kept = []
    while words:
        if words[0] == "--":
            break
        if words[0] in _WITH_VALUE:
            words = words[2:]
            continue
        if not words[0].startswith("-"):
            kept.append(words[0])
        words = words[1:]
    return kept


def _is_assignment(word: str) -> bool:
    return re.match(r"[A-Za-z_][A-Za-z0-9_]*=", word) is not None


def _name(word: str) -> str:
    """Return a program's name without its directory and version: `knex@3` is knex, and python3.12 is python."""
    base = os.path.basename(word).partition("@")[0] or word  # noqa: PTH119 - a word of a command line
    return "python" if _PYTHON.fullmatch(base) else base
