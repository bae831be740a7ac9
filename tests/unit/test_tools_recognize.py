from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.dialects.catalogue import DIALECTS
from migrations.tools.recognize import goes_back, recognize_dialect

SCRIPTS = {
    "migrate:latest": "NODE_ENV=x knex migrate:latest",
    "migrate": "prisma migrate deploy && echo knex",
    "db": "knex migrate:latest",
    "db:setup": "npm run db && echo seeded",
    "db:test": "NODE_ENV=test npm run db",
    "db:ci": "npm run db:test && npm run seed",
    "seed": "node scripts/migrate",
    "again": "npm run again",
    "both": "knex migrate:latest && prisma migrate deploy",
    "up": "migrate up",
    "quoted": "sh -c 'npm run db; echo done'",
    "broken": "knex migrate:latest && echo 'x",
    "prehooked": "knex migrate:latest",
    "hooked": "echo done",
    "back": "knex migrate:rollback",
    "back:all": "npm run back -- --all",
}


@pytest.mark.parametrize(
    ("command", "dialect"),
    [
        ("npx knex migrate:latest", "knex"),
        ("npx --no-install knex@3 migrate:latest --env production", "knex"),
        ("npx -p knex -p pg knex migrate:latest", "knex"),
        ("node_modules/.bin/knex migrate:latest", "knex"),
        ("node node_modules/knex/bin/cli.js migrate:latest", "knex"),
        ("node ../../knex/bin/cli.js migrate:latest", "knex"),
        ("node -r ts-node/register node_modules/.bin/knex migrate:latest", "knex"),
        ("node --import tsx ./node_modules/.bin/knex migrate:latest", "knex"),
        ("ts-node ./node_modules/typeorm/cli.js migration:run", "typeorm"),
        ("node node_modules/@scope/tool/run.js", None),
        ("node scripts/migrate", None),
        ("node scripts/knex.js", None),
        ("npm run migrate:latest", "knex"),
        ("npm --silent run migrate:latest", "knex"),
        ("npm run migrate:latest -- --env production", "knex"),
        ("yarn migrate:latest", "knex"),
        ("pnpm exec knex migrate:latest", "knex"),
        ("bunx knex migrate:latest", "knex"),
        ("npm run migrate", "prisma"),
        ("npm run db:setup", "knex"),
        ("npm run db:test", "knex"),
        ("npm run db:ci", "knex"),
        ("npm run quoted", "knex"),
        ("npm run hooked", "knex"),
        ("npm run seed", None),
        ("npm run again", None),
        ("npm run both", None),
        ("npm run up", None),
        ("npm run nothing", None),
        ("npm --prefix api run migrate:latest", None),
        ("yarn --cwd=api migrate:latest", None),
        ("npm exec -- typeorm migration:run", "typeorm"),
        ("dotenv -- knex migrate:latest", "knex"),
        ("dotenv -e .env.local -- npm run db", "knex"),
        ("dotenv -e .env knex migrate:latest", "knex"),
        ("doppler run -- npx knex migrate:latest", "knex"),
        ("timeout 60 npx knex migrate:latest", "knex"),
        ("tini -- npm run db", "knex"),
        ("python3.12 manage.py migrate", "django"),
        ("python -m alembic upgrade head", "alembic"),
        ("uv run --frozen alembic upgrade head", "alembic"),
        ("poetry run python manage.py migrate", "django"),
        ("env A=b alembic upgrade head", "alembic"),
        ("migrate -path db -database x up", "golang-migrate"),
        ("migrate --source=file://db --database=x up", "golang-migrate"),
        ("migrate up", None),
        ("node scripts/migrate --database x --path y", None),
        ("tsx ./migrate --source=x", None),
        ("node node_modules/migrate/bin/migrate up --path y", None),
        ("python3 scripts/migrate --database=x", None),
        ("python -m migrate --database=x", None),
        ("sudo migrate --path db --database=x up", "golang-migrate"),
        ("bundle exec rails db:migrate", "rails"),
        ("mix ecto.migrate", "ecto"),
        ("./bin/flyway migrate", "flyway"),
        ("sh -c knex", "knex"),
        ("sh migrate.sh", None),
        ("make knex", None),
        ("true", None),
    ],
)
def test_a_tool_is_recognised_by_its_command(command: str, dialect: str | None) -> None:
    """By its program, also behind others or in scripts of package.json; what names no tool, or two, is not guessed."""
    assert recognize_dialect(command.split(), SCRIPTS.get) == dialect
    assert dialect is None or dialect in DIALECTS


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("cd api && npx knex migrate:latest", "knex"),
        ("npm run db:setup || exit 1", "knex"),
        ("set -e; NODE_ENV=x exec knex migrate:latest | tee log", "knex"),
        ("knex migrate:latest && alembic upgrade head", None),
        ("echo 'knex", None),
    ],
)
@pytest.mark.parametrize("shell", ["sh -c", "bash -ec", "/bin/sh -lc", "env sh -c"])
def test_a_shell_runs_the_commands_of_its_text(shell: str, text: str, dialect: str | None) -> None:
    """Each of them is looked at."""
    assert recognize_dialect([*shell.split(), text], SCRIPTS.get) == dialect


@pytest.mark.parametrize(
    ("command", "back"),
    [
        ("npx knex migrate:rollback", True),
        ("npx knex migrate:rollback --all", True),
        ("npx knex migrate:down 1_a.js", True),
        ("npx knex migrate:unlock", True),
        ("npm run back", True),
        ("npm run back:all", True),
        ("npm run db:rollback", True),
        ("alembic downgrade -1", True),
        ("npx typeorm migration:revert", True),
        ("npx sequelize db:migrate:undo:all", True),
        ("goose down-to 7", True),
        ("mix ecto.rollback", True),
        ("npx knex migrate:latest", False),
        ("npm run db:setup", False),
        ("npx knex migrate:latest --knexfile rollback/knexfile.js", False),
        ("alembic upgrade head", False),
    ],
)
def test_a_command_that_goes_back(command: str, back: bool) -> None:
    """A command that undoes migrations is run although the ledger holds the newest one."""
    assert goes_back(command.split(), SCRIPTS.get) is back


@given(st.lists(st.text(), min_size=1))
def test_any_command_line_is_accepted(command: list[str]) -> None:
    """The result is always the name of a dialect, or None."""
    found = recognize_dialect(command, lambda _: None)
    assert found is None or found in DIALECTS
    goes_back(command, lambda _: None)


@given(st.text(), st.sampled_from(["sh -c", "npm run"]))
def test_any_text_of_a_script_is_accepted(text: str, start: str) -> None:
    """Any text of `sh -c` or of a script of package.json gives the name of a dialect, or None."""
    found = recognize_dialect([*start.split(), text], lambda _: text)
    assert found is None or found in DIALECTS
