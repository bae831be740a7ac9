"""Files of dbmate's users run unchanged, both ways; the examples are in the format that its documentation describes.

https://github.com/amacneil/dbmate#creating-migrations and the sections that follow it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

FILES = {
    "20151127184807_create_users_table": """-- migrate:up
create table users (
  id integer,
  name varchar(255),
  email varchar(255) not null
);

-- migrate:down
drop table users;
""",
    "20151127184808_create_colors": """-- Colours that a user may like.
/* They come
   in several. */

-- migrate:up
CREATE TYPE colors AS ENUM ('red', 'green');
CREATE TABLE likes (user_id integer, color colors);

-- migrate:down
DROP TABLE likes;
DROP TYPE colors;
""",
    "20151127184809_add_orange": """-- migrate:up transaction:false
ALTER TYPE colors ADD VALUE 'orange' AFTER 'red';

-- migrate:down transaction:false
""",
    "20151127184810_index_email": """-- migrate:up transaction:false
CREATE INDEX CONCURRENTLY users_email ON users (email);
CREATE INDEX CONCURRENTLY users_name ON users (name);

-- migrate:down transaction:false
DROP INDEX CONCURRENTLY users_email;
DROP INDEX CONCURRENTLY users_name;
""",
    "20151127184811_functions": """-- migrate:up transaction:true
CREATE FUNCTION shout(text) RETURNS text AS $$
BEGIN
  -- migrations may hold semicolons; in functions, too
  RETURN upper($1) || ';';
END;
$$ LANGUAGE plpgsql;

CREATE FUNCTION whisper(text) RETURNS text AS $body$ SELECT lower($1) || '$$;' $body$ LANGUAGE sql;
INSERT INTO users (id, name, email) VALUES (1, shout('ann'), 'ann;@example.org');

-- migrate:down
DELETE FROM users WHERE id = 1;
DROP FUNCTION shout(text);
DROP FUNCTION whisper(text)
""",
}


def fill(ledgergate: Ledgergate) -> None:
    for name, text in FILES.items():
        (ledgergate.directory / f"{name}.sql").write_text(text)


async def test_they_run_as_they_are(ledgergate: Ledgergate, connection: Connection) -> None:
    """Comments, options on both sections, several statements, dollar quotes."""
    fill(ledgergate)
    done = ledgergate("up", DBMATE_MIGRATIONS_DIR="ignored")
    assert (done.returncode, done.stderr) == (0, "")
    assert await connection.fetchval("select name from users") == "ANN;"
    assert await connection.fetchval("select whisper('A')") == "a$$;"
    assert await connection.fetchval("select enum_range(null::colors)::text") == "{red,orange,green}"
    assert await connection.fetchval("select count(*) from pg_index where indisvalid and indrelid = 'users'::regclass")


async def test_they_are_undone_as_far_as_they_say_how(ledgergate: Ledgergate, connection: Connection) -> None:
    """An empty down section undoes nothing, so it is refused and not taken for done."""
    fill(ledgergate)
    assert ledgergate("up").returncode == 0
    done = ledgergate("down", "--steps", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert await connection.fetchval("select to_regclass('users_name') is null")
    assert await connection.fetchval("select to_regproc('shout') is null")
    refused = ledgergate("down", "--steps", "1")
    assert refused.returncode == 2
    assert "20151127184809_add_orange.sql has no down section" in refused.stderr


@pytest.mark.parametrize(
    "marker",
    [" -- migrate:down", "select 1; -- migrate:down", "/* migrate:down */", "-- Migrate:Down", "-- migrate : down"],
)
async def test_what_is_nearly_a_marker_runs_nothing(
    ledgergate: Ledgergate, connection: Connection, marker: str
) -> None:
    """Exit 2 with file and line; without that, the down part would run in `up`."""
    path = ledgergate.directory / "20250101000000_a.sql"
    path.write_text(f"-- migrate:up\ncreate table a (n int);\n{marker}\ndrop table a;\n")
    for command in ("up", "verify", "lint", "revision"):
        done = ledgergate(command)
        assert done.returncode == 2, command
        assert "migrations/20250101000000_a.sql:3: " in done.stdout + done.stderr, command
    assert not await connection.fetchval("select to_regclass('ledgergate_migrations') is not null")
    path.write_text(path.read_text().replace(marker, "-- migrate:down"))
    assert ledgergate("up").returncode == 0
    assert await connection.fetchval("select to_regclass('a') is not null")


async def test_an_option_that_dbmate_ignores_is_named(ledgergate: Ledgergate) -> None:
    """It stops nothing; `up` says which file has it."""
    path = ledgergate.directory / "20250101000000_a.sql"
    path.write_text("-- migrate:up foo:bar fast\nselect 1;\n-- migrate:down env:prod\nselect 1;\n")
    done = ledgergate("up")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{path.name}: left out are the options foo:bar, fast, env:prod" in done.stdout
