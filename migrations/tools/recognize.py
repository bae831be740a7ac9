"""Recognising the migration tool that a command line starts."""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_PROGRAMS: Mapping[str, str] = MappingProxyType(
    {
        "knex": "knex",
        "node-pg-migrate": "node-pg-migrate",
        "sequelize": "umzug",
        "sequelize-cli": "umzug",
        "typeorm": "typeorm",
        "typeorm-ts-node-commonjs": "typeorm",
        "typeorm-ts-node-esm": "typeorm",
        "prisma": "prisma",
        "drizzle-kit": "drizzle",
        "alembic": "alembic",
        "manage.py": "django",
        "django-admin": "django",
        "yoyo": "yoyo",
        "yoyo-migrate": "yoyo",
        "flyway": "flyway",
        "liquibase": "liquibase",
        "migrate": "golang-migrate",
        "goose": "goose",
        "dbmate": "dbmate",
        "atlas": "atlas",
        "sqlx": "sqlx",
        "rails": "rails",
        "rake": "rails",
        "ecto.migrate": "ecto",
        "pgroll": "pgroll",
    }
)
"""The dialect that each program writes."""
_JAVASCRIPT = frozenset(("bun", "bunx", "node", "npm", "npx", "pnpm", "pnpx", "ts-node", "tsx", "yarn"))
_PYTHONIC = frozenset(("pdm", "pipenv", "poetry", "py", "python", "uv", "uvx"))
_STARTERS = _JAVASCRIPT | _PYTHONIC | {"bundle", "env", "exec", "mix", "run", "run-script", "sh", "tini", "x"}
"""Programs that start another program, and words between the two."""
_PACKAGE_MANAGERS = frozenset(("bun", "npm", "pnpm", "yarn"))
_SCRIPTS = frozenset(("run", "run-script"))
_PYTHON = re.compile(r"python[0-9.]*")
_WORD = re.compile(r"[^\s\"';|&]+")


def recognize_dialect(command: Sequence[str], script: Callable[[str], str | None]) -> str | None:
    """Return the dialect of the tool that a command line starts; None where the tool is unknown.

    The lock depends on the dialect, so a command line must always have the same result, whatever the database holds.

    Args:
        command: The program and its arguments.
        script: Returns a script of package.json by its name, for `npm run NAME`; None where there is none.
    """
    managed, before = _name(command[0]) in _PACKAGE_MANAGERS, ""
    for word in _programs(command):
        text = script(word) if managed and word not in _STARTERS else None
        if text is not None:
            return next((_PROGRAMS[name] for name in _programs(_WORD.findall(text)) if name in _PROGRAMS), None)
        if managed and before in _SCRIPTS:
            return None  # a name behind `npm run` is a script's, even where it equals a program's
        if word in _PROGRAMS:
            return _PROGRAMS[word]
        if word not in _STARTERS:
            return None
        before = word
    return None


def _programs(words: Iterable[str]) -> Iterator[str]:
    """Yield the words that may be programs: neither flags nor assignments of variables."""
    return (_name(word) for word in words if not word.startswith("-") and "=" not in word)


def _name(word: str) -> str:
    """Return a program's name without directory and version: `knex@3` is knex, and python3.12 is python."""
    base = os.path.basename(word).partition("@")[0] or word  # noqa: PTH119 - a word of a command line
    return "python" if _PYTHON.fullmatch(base) else base
