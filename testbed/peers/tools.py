"""The files that each tool needs for the same migrations, and the command that applies them.

Every tool commits each migration by itself, together with its ledger row where it can. Where a tool's default is one
transaction for all migrations, that default is a separate tool here, called `NAME, 1 transaction`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from textwrap import dedent

from testbed.timing import Command

_FIRST = datetime(2025, 1, 1, tzinfo=UTC)
_PSQL_LEDGER = """\
create table if not exists ledger (
    id bigint generated always as identity primary key,
    revision text not null unique,
    applied_at timestamptz not null default now()
);
"""
_PSQL_STEP = """\
begin;
{};
insert into ledger (revision) values ('{}');
commit;
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One migration.

    Attributes:
        number: Its place in the order, from 1.
        sql: One statement, without its semicolon.
    """

    number: int
    sql: str

    @property
    def at(self) -> datetime:
        """The time in its file name."""
        return _FIRST + timedelta(minutes=self.number)

    @property
    def name(self) -> str:
        """Its file name without suffix, for the tools whose file names begin with 14 digits."""
        return f"{self.at:%Y%m%d%H%M%S}_step_{self.number:04}"


@dataclass(frozen=True, slots=True)
class Peer:
    """An installed migration tool.

    Attributes:
        name: Its name in the results.
        version: Its pinned version.
        write: Writes a project with the given migrations into a directory.
        command: Returns the command that applies the pending migrations of a project directory to a database URL.
    """

    name: str
    version: str
    write: Callable[[Path, Sequence[Step]], None]
    command: Callable[[Path, str], Command]


def ledgergate(program: Path, version: str) -> Peer:
    """Return ledgergate itself."""
    return Peer("ledgergate", version, _write_marked, _command_with_url(program, "migrate", "up"))


def least(interpreter: Path, version: str) -> Peer:
    """Return the smallest runner on this version of asyncpg: see least.py."""
    program = Path(__file__).with_name("least.py")
    return Peer("asyncpg alone", version, _write_plain, _command_with_url(interpreter, program))


def psql(program: Path, version: str) -> Peer:
    """Return one psql session that does the same work: per migration BEGIN, the statement, its ledger row, COMMIT."""

    def command(project: Path, url: str) -> Command:
        flags = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=all.sql"]
        return Command([program, *flags, f"--dbname={url}"], project, {})

    return Peer("psql", version, _write_script, command)


def npm(modules: Path, versions: Mapping[str, str]) -> list[Peer]:
    """Return the tools in a `node_modules` directory."""
    scripts = modules / ".bin"
    knex = _command_with_url(scripts / "knex", "migrate:latest")
    node_pg, version = scripts / "node-pg-migrate", versions["node-pg-migrate"]
    tools = [
        Peer("knex", versions["knex"], partial(_write_knex, modules, separately=True), knex),
        Peer("knex, 1 transaction", versions["knex"], partial(_write_knex, modules, separately=False), knex),
        Peer("node-pg-migrate", version, _write_node_pg, _command_with_url(node_pg, "up", "--no-single-transaction")),
        Peer("node-pg-migrate, 1 transaction", version, _write_node_pg, _command_with_url(node_pg, "up")),
    ]
    if (dbmate := modules / "@dbmate" / "linux-x64" / "bin" / "dbmate").exists():
        # `up` would first check that the database exists, and dump the schema with pg_dump afterwards.
        command = _command_with_url(dbmate, "--migrations-dir", "migrations", "--no-dump-schema", "migrate")
        tools.append(Peer("dbmate", versions["@dbmate/linux-x64"], _write_marked, command))
    return tools


def go(directory: Path, versions: Mapping[str, str]) -> list[Peer]:
    """Return the programs that were built into a directory."""

    def goose(project: Path, url: str) -> Command:
        environment = {"GOOSE_DRIVER": "postgres", "GOOSE_DBSTRING": url}
        return Command([directory / "goose", "-dir", "migrations", "up"], project, environment)

    def migrate(project: Path, url: str) -> Command:
        return Command([directory / "migrate", "-path", "migrations", "-database", url, "up"], project, {})

    return [
        Peer("goose", versions["goose"], _write_goose, goose),
        Peer("golang-migrate", versions["migrate"], _write_golang, migrate),
    ]


def python(interpreter: Path, versions: Mapping[str, str]) -> list[Peer]:
    """Return the tools in a virtual environment."""
    upgrade = (interpreter, "-m", "alembic", "upgrade", "head")
    return [
        Peer("alembic", versions["alembic"], _write_alembic, _command_with_url(*upgrade, PER_MIGRATION="1")),
        Peer("alembic, 1 transaction", versions["alembic"], _write_alembic, _command_with_url(*upgrade)),
    ]


def _command_with_url(*arguments: str | Path, **environment: str) -> Callable[[Path, str], Command]:
    """Return a command that reads the URL from DATABASE_URL."""
    return lambda project, url: Command(arguments, project, {"DATABASE_URL": url, **environment})


def _write_files(project: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _write_marked(project: Path, steps: Sequence[Step]) -> None:
    """Write files in the format that dbmate and ledgergate share."""
    text = "-- migrate:up\n{};\n\n-- migrate:down\nselect 1;\n"
    _write_files(project, {f"migrations/{step.name}.sql": text.format(step.sql) for step in steps})


def _write_plain(project: Path, steps: Sequence[Step]) -> None:
    _write_files(project, {f"migrations/{step.name}.sql": step.sql for step in steps})


def _write_script(project: Path, steps: Sequence[Step]) -> None:
    text = "".join(_PSQL_STEP.format(step.sql, step.name) for step in steps)
    _write_files(project, {"all.sql": _PSQL_LEDGER + text})


def _write_goose(project: Path, steps: Sequence[Step]) -> None:
    text = "-- +goose Up\n{};\n\n-- +goose Down\nselect 1;\n"
    _write_files(project, {f"migrations/{step.name}.sql": text.format(step.sql) for step in steps})


def _write_golang(project: Path, steps: Sequence[Step]) -> None:
    _write_files(project, {f"migrations/{step.name}.up.sql": f"{step.sql};\n" for step in steps})
    _write_files(project, {f"migrations/{step.name}.down.sql": "select 1;\n" for step in steps})


def _write_node_pg(project: Path, steps: Sequence[Step]) -> None:
    text = "-- Up Migration\n{};\n\n-- Down Migration\nselect 1;\n"
    names = {step: f"migrations/{step.at.timestamp() * 1000:.0f}_step-{step.number:04}.sql" for step in steps}
    _write_files(project, {name: text.format(step.sql) for step, name in names.items()})


def _write_knex(modules: Path, project: Path, steps: Sequence[Step], *, separately: bool) -> None:
    text = "exports.up = (knex) => knex.raw(`{}`);\nexports.down = (knex) => knex.raw(`select 1`);\n"
    files = {f"migrations/{step.name}.js": text.format(step.sql) for step in steps}
    if separately:
        # knex commits the migrations one by one as soon as one pending migration disables its transaction.
        files[f"migrations/{steps[-1].name}.js"] += "exports.config = { transaction: false };\n"
    _write_files(project, files)
    _write_files(
        project,
        {
            "knexfile.js": 'module.exports = { client: "pg", connection: process.env.DATABASE_URL };\n',
            "package.json": "{}\n",
        },
    )
    if not (project / "node_modules").exists():
        (project / "node_modules").symlink_to(modules)  # knex's command line requires a local installation


def _write_alembic(project: Path, steps: Sequence[Step]) -> None:
    text = dedent("""\
        from alembic import op

        revision = "{:04}"
        down_revision = {}


        def upgrade():
            op.execute("{}")


        def downgrade():
            op.execute("select 1")
        """)
    down = None
    for step in steps:
        file = f"migrations/versions/{step.number:04}_step.py"
        _write_files(project, {file: text.format(step.number, repr(down), step.sql)})
        down = f"{step.number:04}"
    environment = dedent("""\
        import os

        from alembic import context
        from sqlalchemy import create_engine, pool

        url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:", 1)
        with create_engine(url, poolclass=pool.NullPool).connect() as connection:
            context.configure(connection=connection, transaction_per_migration="PER_MIGRATION" in os.environ)
            with context.begin_transaction():
                context.run_migrations()
        """)
    settings = "[alembic]\nscript_location = %(here)s/migrations\npath_separator = os\n"
    _write_files(project, {"migrations/env.py": environment, "alembic.ini": settings})
