"""Directories that the real tools make by their own commands are linted with no flag but `lint DIR`.

Of the tools whose SQL lint reads, the Flyway that the tests can install has no such command, and they do not install
Diesel, Atlas, sql-migrate and Rails: tests/unit/test_lint_layouts.py has their shapes.
"""

from __future__ import annotations

import os
import re
import subprocess
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest

from testbed.tools import driver, install
from testbed.tools.install import InstallError
from testbed.tools.programs import COMMAND_LINES
from testbed.tools.start import start
from testbed.waiting import until
from tests.integration.conftest import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from testbed.tools.driver import Tool

pytestmark = pytest.mark.timeout(1500)  # the first test installs the tools

TABLE = "create table users (id bigint primary key, email text);\n"
INDEX = "create index users_email on users (email);\n"
HARMLESS = "create table posts (id bigint primary key);\n"
"""What the second migration of each directory has, in turn."""


def lint(*arguments: str, home: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [PROGRAM, "migrate", "lint", *arguments]
    return subprocess.run(command, cwd=home, input=text, capture_output=True, text=True, check=False, timeout=120)


def call(command: Sequence[str | Path], home: Path, **environment: str) -> str:
    """Run a tool's command, and return what it prints."""
    done = subprocess.run(
        command, cwd=home, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def modules(home: Path) -> Path:
    """Link the packages of npm into a project, and return the link."""
    link = home / "node_modules"
    if not link.exists():
        link.symlink_to(install.npm(install.PINS, install.place(), print))
    return link


def program(name: str) -> Path:
    """Return a tool that is one program."""
    return COMMAND_LINES[name].get()


_PAIRS = ("-ext", "sql", "-dir", "migrations")
MAKE: dict[str, Callable[[Path, str], list[str | Path]]] = {
    "dbmate": lambda _, name: [program("dbmate"), "-d", "migrations", "new", name],
    "goose": lambda _, name: [program("goose"), "-dir", "migrations", "create", name, "sql"],
    "golang-migrate": lambda _, name: [program("golang-migrate"), "create", *_PAIRS, name],
    "sqlx": lambda _, name: [program("sqlx"), "migrate", "add", "-r", name],
    "node-pg-migrate": lambda home, name: [
        *("node", modules(home) / "node-pg-migrate" / "bin" / "node-pg-migrate.js"),
        *("create", name, "--migration-file-language", "sql"),
    ],
}
"""The command by which each tool makes a migration in `migrations`, in a project."""


def is_past(second: datetime) -> bool:
    """Return whether another second has begun."""
    return datetime.now(UTC).replace(microsecond=0) != second


def make(tool: str, home: Path) -> list[Path]:
    """Let the tool make two migrations; return the files that it applies, in order.

    Their names begin with the second in which they were made, for some tools.
    """
    made: list[Path] = []
    for name in ("create_users", "change_users"):
        try:
            call(MAKE[tool](home, name), home)
        except InstallError as reason:
            pytest.skip(str(reason))
        made += sorted(path for path in (home / "migrations").iterdir() if re.search(rf"{name}(\.up)?\.sql", path.name))
        made += sorted((home / "migrations").glob(f"*{name.replace('_', '-')}*.sql"))
        until("the next second", partial(is_past, datetime.now(UTC).replace(microsecond=0)))
    assert len(made) == 2, sorted((home / "migrations").iterdir())
    return made


def fill(path: Path, sql: str) -> int:
    """Write SQL where the tool's template has room for it, and some to undo it; return the line of the first."""
    text = re.sub(r"SELECT '(?:up|down) SQL query';\n", "select 1;\n", path.read_text())
    head, marker, rest = re.split(r"(-- migrate:down|-- Down Migration|-- \+goose Down|\Z)", text, maxsplit=1)
    down = f"{marker}{rest.rstrip()}\nselect 1;\n" if marker else ""
    path.write_text(f"{head}{sql}{down}")
    if path.name.endswith(".up.sql"):
        path.with_name(path.name.replace(".up.sql", ".down.sql")).write_text("select 1;\n")
    return f"{head}{sql}".count("\n")


def started(tool: str, home: Path, url: str) -> AbstractContextManager[Tool]:
    """Start a tool in its project."""
    if tool == "node-pg-migrate":
        modules(home).unlink()  # the driver makes its own
        return driver.javascript(tool, home, url)
    return start(tool, home, url)


@pytest.mark.parametrize("tool", MAKE)
def test_a_directory_that_a_tool_has_made(tool: str, tmp_path: Path, database: str) -> None:
    """The hazard is found on its line, and nothing without it; the tool applies what was linted."""
    (tmp_path / "migrations").mkdir()
    first, second = make(tool, tmp_path)
    templates = {path: path.read_text() for path in (first, second)}
    fill(first, TABLE)
    line = fill(second, INDEX)
    done = lint("migrations", home=tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    assert f"migrations/{second.name}:{line}: index-not-concurrent: " in done.stdout
    count = len(list((tmp_path / "migrations").iterdir()))
    assert done.stdout.endswith(f"1 error, 0 warnings in {count} files\n")
    second.write_text(templates[second])
    fill(second, HARMLESS)
    done = lint("migrations", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"0 errors, 0 warnings in {count} files\n")
    with started(tool, tmp_path, database) as real:
        answer = real("all")
    assert answer.error is None


SCHEMA = """\
datasource db {
  provider = "postgresql"
  url = "postgresql://localhost/unused"
}

model users {
  id BigInt @id
  email String?
}
"""


def test_a_directory_of_prisma(tmp_path: Path, database: str) -> None:
    """`migrate diff` writes the SQL, as Prisma's guide to baselines does: of a table, then of an index on it."""
    try:
        prisma = modules(tmp_path) / "prisma" / "build" / "index.js"
    except InstallError as reason:
        pytest.skip(str(reason))
    schemas = {"users": SCHEMA, "index": SCHEMA.replace("String?\n", "String?\n  @@index([email])\n")}
    for name, schema in schemas.items():
        (tmp_path / f"{name}.prisma").write_text(schema)
    (tmp_path / "prisma.config.mjs").write_text(
        'import { PrismaPg } from "@prisma/adapter-pg";\n'
        'export default { experimental: { adapter: true }, engine: "js",\n'
        "adapter: async () => new PrismaPg({ connectionString: process.env.URL }) };\n"
    )
    some = str(tmp_path / "users.prisma")  # something that is there, so that no engine is downloaded
    quiet = {
        "PRISMA_QUERY_ENGINE_LIBRARY": some,
        "PRISMA_SCHEMA_ENGINE_BINARY": some,
        "CHECKPOINT_DISABLE": "1",
        "URL": database,
    }
    steps = {
        "0_init": ["--from-empty", "--to-schema-datamodel", "users.prisma"],
        "1_index": ["--from-schema-datamodel", "users.prisma", "--to-schema-datamodel", "index.prisma"],
    }
    for name, flags in steps.items():
        path = tmp_path / "migrations" / name / "migration.sql"
        path.parent.mkdir(parents=True)
        path.write_text(call(["node", prisma, "migrate", "diff", *flags, "--script"], tmp_path, **quiet))
    done = lint("migrations", home=tmp_path)
    assert done.returncode == 2
    assert "migrations/1_index/migration.sql:2: index-not-concurrent: " in done.stdout
    assert done.stdout.endswith("1 error, 0 warnings in 2 files\n")


TABLE_OF_DRIZZLE = """\
import {{ bigint, index, pgTable, text }} from "drizzle-orm/pg-core";
const columns = {{ id: bigint({{ mode: "number" }}).primaryKey(), email: text() }};
export const users = pgTable("users", columns, (users) => [{}]);
"""


def test_a_directory_of_drizzle(tmp_path: Path) -> None:
    """`drizzle-kit generate` writes the SQL from the table's description: of the table, then of an index on it."""
    try:
        kit = modules(tmp_path) / "drizzle-kit" / "bin.cjs"
    except InstallError as reason:
        pytest.skip(str(reason))
    flags = ("--dialect", "postgresql", "--schema", "schema.mjs", "--out", "migrations")
    for name, indexes in {"create_users": "", "change_users": 'index("users_email").on(users.email)'}.items():
        (tmp_path / "schema.mjs").write_text(TABLE_OF_DRIZZLE.format(indexes))
        call(["node", kit, "generate", *flags, "--name", name], tmp_path)
    done = lint("migrations", home=tmp_path)
    assert done.returncode == 2
    assert "migrations/0001_change_users.sql:1: index-not-concurrent: " in done.stdout
    assert done.stdout.endswith("1 error, 0 warnings in 2 files\n")


def test_the_sql_of_alembic(tmp_path: Path) -> None:
    """`alembic upgrade head --sql` is linted from standard input; its scripts are named as what lint does not read."""
    try:
        python = install.python(install.PINS, install.place(), print)
    except InstallError as reason:
        pytest.skip(str(reason))
    alembic: list[str | Path] = [python, "-m", "alembic"]
    call([*alembic, "init", "migrations"], tmp_path)
    settings = tmp_path / "alembic.ini"
    settings.write_text(
        re.sub("(?m)^sqlalchemy.url = .*", "sqlalchemy.url = postgresql+psycopg://", settings.read_text())
    )
    for name, sql in {"users": TABLE, "more": INDEX}.items():
        call([*alembic, "revision", "-m", name, "--rev-id", name], tmp_path)
        (script,) = (tmp_path / "migrations" / "versions").glob(f"{name}_*.py")
        script.write_text(re.sub("(?m)^def upgrade.*", rf'\g<0>\n    op.execute("{sql.strip()}")', script.read_text()))
    whole = call([*alembic, "upgrade", "head", "--sql"], tmp_path)
    done = lint("-", home=tmp_path, text=whole)  # the table is new
    assert (done.returncode, done.stdout) == (0, "0 errors, 0 warnings in 1 file\n")
    part = call([*alembic, "upgrade", "users:more", "--sql"], tmp_path)
    done = lint("-", home=tmp_path, text=part)
    assert (done.returncode, done.stdout.count("index-not-concurrent: ")) == (2, 1)
    done = lint("migrations/versions", home=tmp_path)
    assert done.returncode == 2
    assert "alembic upgrade --sql head" in done.stdout


def test_scripts_of_knex(tmp_path: Path) -> None:
    """Migrations in JavaScript are not SQL: exit 2 says that none was read, and `--exclude` does not make it green."""
    try:
        knex = modules(tmp_path) / "knex" / "bin" / "cli.js"
    except InstallError as reason:
        pytest.skip(str(reason))
    (tmp_path / "knexfile.js").write_text('module.exports = { client: "pg" };\n')
    call(["node", knex, "migrate:make", "create_users"], tmp_path)
    for flags in ((), ("--exclude", "*.js")):
        done = lint("migrations", *flags, home=tmp_path)
        assert done.returncode == 2
        assert "found no file that lint reads" in done.stdout
