from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.dialects.catalogue import DIALECTS
from migrations.tools.recognize import recognize_dialect


@pytest.mark.parametrize(
    ("command", "dialect"),
    [
        ("npx knex migrate:latest", "knex"),
        ("npx --no-install knex@3 migrate:latest --env production", "knex"),
        ("node_modules/.bin/knex migrate:latest", "knex"),
        ("npm run migrate:latest", "knex"),
        ("yarn migrate:latest", "knex"),
        ("npm run migrate", "prisma"),
        ("npm run nothing", None),
        ("npm exec -- typeorm migration:run", "typeorm"),
        ("python3.12 manage.py migrate", "django"),
        ("python -m alembic upgrade head", "alembic"),
        ("env A=b alembic upgrade head", "alembic"),
        ("migrate -path db -database x up", "golang-migrate"),
        ("bundle exec rails db:migrate", "rails"),
        ("mix ecto.migrate", "ecto"),
        ("./bin/flyway migrate", "flyway"),
        ("sh -c knex", "knex"),
        ("make knex", None),
        ("true", None),
    ],
)
def test_a_tool_is_recognised_by_its_command(command: str, dialect: str | None) -> None:
    """By its program, also behind another one or in a script of package.json; an unknown command is not guessed."""
    scripts = {"migrate:latest": "NODE_ENV=x knex migrate:latest", "migrate": "prisma migrate deploy && echo knex"}
    assert recognize_dialect(command.split(), scripts.get) == dialect
    assert dialect is None or dialect in DIALECTS


@given(st.lists(st.text(), min_size=1))
def test_any_command_line_is_accepted(command: list[str]) -> None:
    """The result is always the name of a dialect, or None."""
    found = recognize_dialect(command, lambda _: None)
    assert found is None or found in DIALECTS
