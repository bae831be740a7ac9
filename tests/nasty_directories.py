"""Projects of each tool, full of what confuses a listing, and projects at which the tool stops."""

from __future__ import annotations

import json
from textwrap import dedent

SQL = "select 1;\n"
UP_DOWN = "exports.up = async () => {};\nexports.down = async () => {};\n"
MARKED = "-- migrate:up\nselect 1;\n-- migrate:down\nselect 1;\n"
PAIR = "-- Up Migration\nselect 1;\n-- Down Migration\nselect 1;\n"
GOOSE = "-- +goose Up\nselect 1;\n-- +goose Down\nselect 1;\n"
RUBY = "class {} < ActiveRecord::Migration[6.1]\n  def up = execute('select 1')\nend\n"
TYPEORM = "exports.{0} = class {0} {{ {1} async up() {{}} async down() {{}} }};\n"
YOYO = "from yoyo import step\nsteps = [step('select 1')]\n"


def alembic(revision: str, down: str | None, **more: object) -> str:
    """Return the text of a revision."""
    lines = [f"{key} = {value!r}" for key, value in {"revision": revision, "down_revision": down, **more}.items()]
    return "\n".join([*lines, "def upgrade(): pass", "def downgrade(): pass", ""])


def django(*needs: str, replaces: tuple[str, ...] = ()) -> str:
    """Return the text of a migration that depends on others, as APP.NAME."""
    pairs, replaced = ([tuple(name.split(".")) for name in names] for names in (needs, replaces))
    return dedent(f"""\
        from django.db import migrations


        class Migration(migrations.Migration):
            dependencies = {pairs!r}
            replaces = {replaced!r}
            operations = []
        """)


ENV = """\
import os

from alembic import context
from sqlalchemy import create_engine

with create_engine(os.environ["SQLALCHEMY_URL"]).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
RECURSIVE = """\
[alembic]
script_location = migrations
path_separator = os
recursive_version_locations = true
version_locations = migrations/versions:%(here)s/more
"""

NASTY: dict[str, dict[str, str]] = {
    "knex": {
        "migrations/20250101000001_a.js": UP_DOWN,
        "migrations/20250101000002_b.cjs": UP_DOWN,
        "migrations/20250101000003_c.js": "-> ../shared.js",
        "migrations/20250101000004_d.mjs": UP_DOWN,  # not among the extensions that Knex loads
        "migrations/.20250101000005_hidden.js": UP_DOWN,
        "migrations/20250101000003_c.js.map": "{}",
        "migrations/README.md": "",
        "migrations/sub/20250101000009_i.js": UP_DOWN,
        "migrations/node_modules/x/20250101000009_i.js": UP_DOWN,
        "shared.js": UP_DOWN,
    },
    "umzug": {
        "migrations/20250101000001-a.js": UP_DOWN,
        "migrations/anything.js": UP_DOWN,
        "migrations/.hidden.js": UP_DOWN,
        "migrations/20250101000001-a.d.ts": "",
        "migrations/sub/20250101000009-i.js": UP_DOWN,
    },
    "node-pg-migrate": {
        "migrations/1700000000000_a.sql": PAIR,
        "migrations/1700000000001.b.cjs": UP_DOWN,
        "migrations/1700000000002c.cjs": UP_DOWN,
        "migrations/1700000000003_link.sql": "-> ../shared.sql",
        "migrations/.1700000000004_hidden.sql": SQL,
        "migrations/helper.sql": PAIR,  # which the driver's `ignorePattern` names: the tool stops at other names
        "migrations/1700000000005_directory.sql/1700000000006_i.sql": SQL,
        "shared.sql": PAIR,
    },
    "typeorm": {
        "migrations/1700000000001-First.js": TYPEORM.format("First1700000000001", ""),
        "migrations/users.js": TYPEORM.format("AddUsers1700000000002", ""),
        "migrations/1700000000003-Two.js": TYPEORM.format("A1700000000003", "") + TYPEORM.format("B1700000000004", ""),
        "migrations/2025/1700000000005-Later.js": TYPEORM.format("Later1700000000005", ""),
        "migrations/renamed.js": TYPEORM.format("Renamed", "name = 'Renamed1700000000006';"),
        "migrations/1700000000009-Gone.d.ts": "export class Gone1700000000009 {}",
        "migrations/helper.js": "exports.helper = 1;\n",
        "migrations/.hidden/1700000000009-Gone.js": TYPEORM.format("Gone1700000000009", ""),
        "migrations/linked": "-> ../elsewhere",
        "elsewhere/linked.js": TYPEORM.format("Linked1700000000007", ""),
    },
    "drizzle": {
        "migrations/meta/_journal.json": json.dumps(
            {
                "version": "7",
                "dialect": "postgresql",
                "entries": [
                    {"idx": 1, "version": "7", "when": 1700000000001, "tag": "0001_b", "breakpoints": True},
                    {"idx": 0, "version": "7", "when": 1700000000000, "tag": "0000_a", "breakpoints": True},
                ],
            }
        ),
        "migrations/0000_a.sql": SQL,
        "migrations/0001_b.sql": SQL,
        "migrations/0002_left_behind.sql": SQL,
    },
    "prisma": {
        "migrations/20250101000001_a/migration.sql": SQL,
        "migrations/anything/migration.sql": SQL,
        "migrations/20250101000001_a/nested/migration.sql": SQL,
        "migrations/README.md": "",
        "migrations/20250101000009_file": "",
        "migrations/20250101000009_linked": "-> ../elsewhere",
        "migrations/.hidden/migration.sql": SQL,
        "elsewhere/migration.sql": SQL,
    },
    "yoyo": {
        "migrations/0001.a.py": YOYO,
        "migrations/0002.b.sql": SQL,
        "migrations/0002.b.rollback.sql": SQL,
        "migrations/post-apply.py": YOYO,
        "migrations/post-apply-grants.sql": SQL,
        "migrations/__init__.py": "",
        "migrations/.hidden.py": YOYO,
        "migrations/sub/0009.i.py": YOYO,
        "migrations/0003.directory.py/x.txt": "",
        "migrations/README.txt": "",
    },
    "alembic": {
        "alembic.ini": RECURSIVE,
        "migrations/env.py": ENV,
        "migrations/versions/a.py": alembic("aaa", None),
        "migrations/versions/_b.py": alembic("bbb", "aaa"),
        "migrations/versions/2025/c.py": alembic("ccc", "bbb"),
        "migrations/versions/2025/january/d.py": alembic("ddd", "ccc"),
        "migrations/versions/2025/__init__.py": "",
        "migrations/versions/2025/notes.txt": "",
        "migrations/versions/linked": "-> ../../elsewhere",
        "elsewhere/i.py": alembic("iii", "ccc"),
        "migrations/versions/other.py": alembic("eee", None, branch_labels=("other",)),
        "migrations/versions/joined.py": alembic("fff", "ddd", depends_on="other"),
        "more/later/g.py": alembic("ggg", "fff"),
    },
    "django": {
        "installed": "shop apps.billing people unmigrated moved without",
        "settings.py": "MIGRATION_MODULES = {'moved': 'database.moved_away', 'without': None}\n",
        "moved/__init__.py": "",
        "moved/migrations/__init__.py": "",
        "moved/migrations/0009_old_place.py": django(),
        "database/__init__.py": "",
        "database/moved_away/__init__.py": "",
        "database/moved_away/0001_initial.py": django(),
        "without/__init__.py": "",
        "without/migrations/__init__.py": "",
        "without/migrations/0001_initial.py": django(),
        "shop/__init__.py": "",
        "shop/migrations/__init__.py": "",
        "shop/migrations/initial.py": django(),
        "shop/migrations/0002_old.py": django("shop.initial"),
        "shop/migrations/0003_old.py": django("shop.0002_old"),
        "shop/migrations/0002_squashed_0003.py": django("shop.initial", replaces=("shop.0002_old", "shop.0003_old")),
        "shop/migrations/0004_next.py": django("shop.0003_old", "billing.0012_first"),
        "shop/migrations/_helper.py": "",
        "shop/migrations/package/__init__.py": "",
        "shop/migrations/sql/0009_raw.py": "",
        "apps/__init__.py": "",
        "apps/billing/__init__.py": "",
        "apps/billing/migrations/__init__.py": "",
        "apps/billing/migrations/0012_first.py": django(),
        "people/__init__.py": "",
        "people/apps.py": "from django.apps import AppConfig\n\n\nclass People(AppConfig):\n    name = 'people'\n"
        "    label = 'humans'\n",
        "people/migrations/__init__.py": "",
        "people/migrations/0001_initial.py": django(),
        "unmigrated/__init__.py": "",
        "unmigrated/migrations/0001_initial.py": django(),
        "env/pyvenv.cfg": "",
        "env/lib/python3.11/site-packages/auth/migrations/__init__.py": "",
        "env/lib/python3.11/site-packages/auth/migrations/0001_initial.py": django(),
        "debian/dist-packages/auth/migrations/__init__.py": "",
        "debian/dist-packages/auth/migrations/0001_initial.py": django(),
        "node_modules/x/migrations/__init__.py": "",
        "node_modules/x/migrations/0001_initial.py": django(),
    },
    "rails": {
        "migrations/20240101000000_a.rb": RUBY.format("A"),
        "migrations/2025/20250101000000_b.rb": RUBY.format("B"),
        "migrations/2025/deep/20250101000001_c.engine.rb": RUBY.format("C"),
        "migrations/.hidden/20250101000009_i.rb": RUBY.format("I"),
        "migrations/helper.rb": "",
        "migrations/linked": "-> ../elsewhere",
        "elsewhere/20250101000009_i.rb": RUBY.format("I"),
        "migrations/20250101000007_l.rb": "-> ../elsewhere/l.rb",
        "elsewhere/l.rb": RUBY.format("L"),
        "migrations/20250101000008_notes.txt": "",
        "migrations/node_modules/20250101000009_d.rb": RUBY.format("D"),
    },
    "flyway": {
        "migrations/V1__a.sql": SQL,
        "migrations/V1_1__b.sql": SQL,
        "migrations/2025/V2.1__c.sql": SQL,
        "migrations/.hidden/V2.2__h.sql": SQL,
        "migrations/V3.sql": SQL,
        "migrations/V4__.sql": SQL,
        "migrations/R__some_view.sql": SQL,
        "migrations/2025/R__other view.sql": SQL,
        "migrations/beforeMigrate.sql": SQL,
        "migrations/afterMigrate__x.sql": SQL,
        "migrations/v9__lower.sql": SQL,
        "migrations/V8__upper.SQL": SQL,
        "migrations/V9__text.txt": "",
        "migrations/U1__a.sql": SQL,
        "migrations/B0__before.sql": SQL,
        "migrations/V5.x__letters.sql": SQL,
        "migrations/V5-2__dash.sql": SQL,
        "migrations/Views__a.sql": SQL,
        "migrations/V__a.sql": SQL,
        "migrations/V_5__b.sql": SQL,
        "migrations/V6__a__b.c.sql": SQL,
        "migrations/V7_.sql": SQL,
        "migrations/R__.sql": SQL,
        "migrations/R__Repeated__twice.v2.sql": SQL,
        "migrations/linked": "-> ../elsewhere",
        "elsewhere/V7.1__linked.sql": SQL,
        "migrations/V7.2__linked.sql": "-> ../elsewhere/V7.1__linked.sql",
        "migrations/V1__a.sql.conf": "",
        "migrations/node_modules/V7.3__package.sql": SQL,
        "migrations/env/pyvenv.cfg": "",
        "migrations/env/V7.4__environment.sql": SQL,
    },
    "goose": {
        "migrations/00001_a.sql": GOOSE,
        "migrations/2_.sql": GOOSE,
        "migrations/10_b.c.sql": GOOSE,
        "migrations/notes.txt": "",
        "migrations/sub/00019_i.sql": GOOSE,
        "migrations/helper_test.go": "package migrations\n",
        "migrations/00011_helper_test.go": "package migrations\n",
        "migrations/00012_c_test.sql": GOOSE,
    },
    "dbmate": {
        "migrations/20250101000001_a.sql": MARKED,
        "migrations/20250101000002-b.sql": MARKED,
        "migrations/20250101000003.sql": MARKED,
        "migrations/20250101000004c.sql": MARKED,
        "migrations/helper.sql": MARKED,
        "migrations/sub/20250101000009_i.sql": MARKED,
        "migrations/20250101000008_directory.sql/x.sql": MARKED,
        "migrations/.20250101000009_i.sql": MARKED,
    },
    "golang-migrate": {
        "migrations/1_a.up.sql": SQL,
        "migrations/1_a.down.sql": SQL,
        "migrations/2_.up.sql": SQL,
        "migrations/3_c.up.sql.orig": SQL,
        "migrations/4_gone.down.sql": SQL,
        "migrations/8_.up.sql.orig": SQL,  # the newest, since the tool records no other
        "migrations/5_notes.sql": SQL,
        "migrations/x_9.up.sql": SQL,
        "migrations/6_directory.up.sql/x.sql": SQL,
        "migrations/sub/9_i.up.sql": SQL,
    },
    "sqlx": {
        "migrations/1_a.sql": SQL,
        "migrations/2_.sql": SQL,
        "migrations/3_c.up.sql": SQL,
        "migrations/3_c.down.sql": SQL,
        "migrations/notes.sql": SQL,
        "migrations/notes_1.txt": "",
        "migrations/5_directory.sql/x.sql": SQL,
        "migrations/x_6.sql/x.sql": SQL,
        "migrations/sub/9_i.sql": SQL,
    },
}
"""For each tool: files of a project; `-> TARGET` is a link."""

REFUSED: dict[str, list[dict[str, str]]] = {
    "rails": [
        {"migrations/1_a.rb": RUBY.format("A"), "migrations/2_CamelCase.rb": RUBY.format("CamelCase")},
        {"migrations/1_a.rb": RUBY.format("A"), "migrations/sub/0001_b.rb": RUBY.format("B")},
    ],
    "flyway": [
        {"migrations/V1__a.sql": SQL, "migrations/sub/V1.0__b.sql": SQL},
        {"migrations/R__a.sql": SQL, "migrations/sub/R__a.sql": SQL},
    ],
    "goose": [{"migrations/1_a.sql": GOOSE, "migrations/0001_b.sql": GOOSE}],
    "golang-migrate": [{"migrations/1_a.up.sql": SQL, "migrations/01_b.up.sql": SQL}],
    "sqlx": [
        {"migrations/1_a.sql": SQL, "migrations/x_2.sql": SQL},
        {"migrations/1_a.sql": SQL, "migrations/.h_2.sql": SQL},
    ],
    "yoyo": [{"migrations/0001.a.py": YOYO, "migrations/0001.a.sql": SQL}],
    "alembic": [
        {"migrations/env.py": ENV, "migrations/versions/a.py": alembic("a", None), "migrations/versions/helper.py": ""},
        {"migrations/env.py": ENV, "migrations/versions/b.py": alembic("b", "a")},
    ],
    "django": [
        {
            "shop/__init__.py": "",
            "shop/migrations/__init__.py": "",
            "shop/migrations/0001_initial.py": django(),
            "shop/migrations/helper.py": "",
        }
    ],
    "prisma": [{"migrations/20250101000001_a/migration.sql": SQL, "migrations/empty/x": ""}],
    "drizzle": [
        {
            "migrations/meta/_journal.json": json.dumps(
                {"entries": [{"idx": 0, "version": "7", "when": 1700000000000, "tag": "0000_a", "breakpoints": True}]}
            )
        }
    ],
}
"""For each tool: projects at which it stops."""
