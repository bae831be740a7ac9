"""Rules of discovery, taken from a tool's source where no test can run it or a real run does not show them."""

from __future__ import annotations

import os
from errno import EACCES
from pathlib import Path

import pytest

from migrations.core.ledger import Position, Record, State
from migrations.core.revision import Revision
from migrations.dialects.catalogue import find_dialect
from migrations.files.external import ExternalFilesError

MIGRATION = "class Migration: ...\n"


def fill(directory: Path, **files: str) -> Path:
    """Write files by their paths, in which `/` stands for a folder."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def listed(dialect: str, directory: Path) -> list[str]:
    """Return what the dialect finds, in order."""
    return list(find_dialect(dialect).directory(directory))


def refusal(dialect: str, directory: Path) -> str:
    """Return why a directory is refused."""
    with pytest.raises(ExternalFilesError) as error:
        find_dialect(dialect).directory(directory)
    return str(error.value)


def test_ecto_by_its_source(tmp_path: Path) -> None:
    """`Ecto.Migrator` of ecto_sql: `**/*.{ex,exs}` whose name is an integer and an underscore; `.ex` is left out."""
    names = (
        "1_a.exs",
        "2025/02_b.c.exs",
        "2025/deep/3_.exs",
        "4_d.ex",
        "6.exs",
        ".formatter.exs",
        "helper.exs",
        ".h/5_e.exs",
    )
    fill(tmp_path, **dict.fromkeys(names, ""))
    assert sorted(listed("ecto", tmp_path)) == ["02_b.c", "1_a", "3_"]
    fill(tmp_path, **{"other/0003_twice.exs": ""})
    assert "are one version, 3" in refusal("ecto", tmp_path)


def test_atlas_by_its_source(tmp_path: Path) -> None:
    """`LocalDir.Files` of Atlas: `*.sql` of the directory alone; a checkpoint is run by new databases only."""
    fill(
        tmp_path,
        **{
            "1_a.sql": "select 1;",
            "2_b.sql": "-- a comment\n\nselect 1;",
            "3_checkpoint.sql": "-- atlas:checkpoint v3\n\ncreate table a ();",
            "4_no_checkpoint.sql": "-- atlas:checkpoint\nselect 1;",  # belongs to the statement
            "5.sql": "select '\n-- atlas:checkpoint\n\n'",
            "5_hash.sql": "# atlas:checkpoint\n \t\nselect 1;",
            "5_only.sql": "-- atlas:checkpoint",
            ".6_hidden.sql": "",
            "sub/7_c.sql": "",
            "atlas.sum": "",
            "8_directory.sql/x": "",
        },
    )
    assert listed("atlas", tmp_path) == [".6_hidden.sql", "1_a.sql", "2_b.sql", "4_no_checkpoint.sql", "5.sql"]


def test_a_checkpoint_of_atlas_is_no_gap(tmp_path: Path) -> None:
    """Neither a database that began before it nor one that began with it lacks what the image declares."""
    fill(tmp_path, **{"1_a.sql": "", "2_b.sql": "-- atlas:checkpoint\n\n", "3_c.sql": ""})
    tool = find_dialect("atlas")
    declared = tool.declare(tool.directory(tmp_path))
    for versions in (("1", "3"), ("2", "3")):
        records = [Record(name, State.APPLIED, baseline=name == versions[0]) for name in versions]
        assert tool.build_ledger(records).is_complete_for(declared), versions


def test_a_directory_of_checkpoints_alone(tmp_path: Path) -> None:
    """The newest checkpoint is the first migration, which every new database runs."""
    fill(tmp_path, **{"2_b.sql": "-- atlas:checkpoint\n\n"})
    assert listed("atlas", tmp_path) == ["2_b.sql"]


def test_pgroll_by_its_source(tmp_path: Path) -> None:
    """`CollectFilesFromDir` of pgroll: `*.json`, `*.yml`, `*.yaml` of the directory alone."""
    names = ("01_a.json", "02_b.yml", "03_c.yaml", "04_d.yaml.tmpl", "sub/05_e.json", "06_f.sql", ".07_hidden.json")
    fill(tmp_path, **dict.fromkeys(names, ""))
    assert listed("pgroll", tmp_path) == [".07_hidden", "01_a", "02_b", "03_c"]
    fill(tmp_path, **{"03_c.json": ""})
    assert "are one version, 03_c" in refusal("pgroll", tmp_path)


def test_drizzle_since_version_1(tmp_path: Path) -> None:
    """`readMigrationFiles` of drizzle-orm 1.0: folders instead of a journal; the ledger has the time of the name."""
    fill(tmp_path, **{f"{name}/migration.sql": "" for name in ("20250126120000_a", "20250126120001_b")})
    fill(tmp_path, **{"20250126120002_c/snapshot.json": ""})
    assert listed("drizzle", tmp_path) == ["1737892800000", "1737892801000"]
    fill(tmp_path, **{"later/migration.sql": ""})
    assert "later: expected a name like 2025" in refusal("drizzle", tmp_path)


def test_alembic_reads_subdirectories_as_its_settings_say(tmp_path: Path) -> None:
    """Without settings, revisions there count and helpers do not; with settings, Alembic's rule decides."""
    versions = tmp_path / "alembic" / "versions"
    fill(
        versions,
        **{
            "a.py": "revision, down_revision = 'a', None\n",
            "2025/b.py": "revision = 'b'\ndown_revision = 'a'\n",
            "2025/helper.py": "def help(): ...\n",
            ".venv/lib/c.py": "revision = 'c'\ndown_revision = 'b'\n",
            "env/pyvenv.cfg": "",
            "env/lib/d.py": "revision = 'd'\ndown_revision = 'b'\n",
        },
    )
    assert listed("alembic", versions) == ["a", "b"]
    (tmp_path / "alembic" / "env.py").touch()
    assert listed("alembic", tmp_path / "alembic") == ["a", "b"]  # the script directory
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/alembic\n")
    assert listed("alembic", versions) == ["a"]
    (tmp_path / "alembic.ini").unlink()
    (tmp_path / "pyproject.toml").write_text("[tool.alembic]\nrecursive_version_locations = true\n")
    assert "helper.py: expected revision" in refusal("alembic", versions)


@pytest.mark.parametrize(
    "listed_as",
    [
        "[alembic]\nversion_locations = %(here)s/a %(here)s/b\n",
        "[alembic]\nversion_path_separator = os\nversion_locations = a:b\n",
        "[alembic]\nversion_locations = %(here)s/a %(here)s/b %(here)s/../{}/a\n",
        "[alembic]\npath_separator = ;\nversion_locations = a;b\n",
        "[alembic]\npath_separator = :\nversion_locations = a:b\n",
        "[alembic]\npath_separator = newline\nversion_locations =\n  a\n  b\n  package:versions\n",
    ],
)
def test_every_directory_of_alembics_settings_is_read(listed_as: str, tmp_path: Path) -> None:
    """Whichever is named, or the one above them: the newest revision may be in another."""
    fill(
        tmp_path,
        **{
            "alembic.ini": listed_as.format(tmp_path.name),
            "a/one.py": "revision = 'one'\n",
            "b/two.py": "revision, down_revision = 'two', 'one'\n",
            "c/three.py": "revision, down_revision = 'three', 'two'\n",
        },
    )
    for name in ("a", "b", "."):
        assert listed("alembic", tmp_path / name) == ["one", "two"]
    assert "builds on two, which has no file" in refusal("alembic", tmp_path / "c")


@pytest.mark.parametrize(
    "text",
    [
        "revision = make()\ndown_revision = 'a'\n",
        "revision = 'b'\ndown_revision = previous()\n",
        "from base import revision\ndown_revision = 'a'\n",
        "if True:\n    revision = 'b'\ndown_revision = 'a'\n",
        "down_revision = 'a'\n",
    ],
    ids=["computed", "computed base", "imported", "conditional", "none"],
)
def test_a_revision_that_only_running_the_file_would_show_is_refused(text: str, tmp_path: Path) -> None:
    """It may be the newest: what comes before it must not be declared instead."""
    fill(tmp_path, **{"a.py": "revision = 'a'\n", "other.py": text})
    assert "other.py: expected" in refusal("alembic", tmp_path)


def test_a_file_may_name_its_revision(tmp_path: Path) -> None:
    """As before Alembic 0.2, where a revision is hexadecimal."""
    fill(tmp_path, **{"ae10.py": "down_revision = None\n", "b.py": "revision = 'b'\ndown_revision = 'ae10'\n"})
    assert listed("alembic", tmp_path) == ["ae10", "b"]


@pytest.mark.parametrize("word", ["1", "true", "Yes", "on", "no"])
def test_alembics_words_for_true(word: str, tmp_path: Path) -> None:
    """With any other word, revisions in subdirectories do not count."""
    files = {"a.py": "revision = 'a'\n", "2025/b.py": "revision, down_revision = 'b', 'a'\n"}
    fill(tmp_path, **files, **{"alembic.ini": f"[alembic]\nrecursive_version_locations = {word}\n"})
    assert listed("alembic", tmp_path) == (["a"] if word == "no" else ["a", "b"])


def test_two_revisions_of_one_name_are_refused(tmp_path: Path) -> None:
    """Alembic warns, and takes the last that it finds."""
    fill(tmp_path, **{"a.py": "revision = 'a'\n", "b.py": "revision = 'a'\n"})
    assert "are both revision a" in refusal("alembic", tmp_path)


def test_an_encoding_of_a_python_file_counts(tmp_path: Path) -> None:
    """A file in Latin-1 says so in its first line; a null byte is no Python."""
    (tmp_path / "a.py").write_bytes(b"# coding: latin-1\nrevision = 'a'\nmessage = '\xe9'\n")
    assert listed("alembic", tmp_path) == ["a"]
    (tmp_path / "b.py").write_bytes(b"revision = 'b'\0")
    assert "b.py: expected Python" in refusal("alembic", tmp_path)


def test_an_application_of_django_is_a_package_with_a_label(tmp_path: Path) -> None:
    """The label of its AppConfig, of several that of the default one; installed packages do not count."""
    apps = "from django.apps import AppConfig\nclass A(AppConfig):\n    label = 'one'\n"
    fill(
        tmp_path,
        **{
            "a/apps.py": apps,
            "b/apps.py": apps.replace("one", "two") + "class B(AppConfig):\n    label = 'three'\n    default = True\n",
            "c/apps.py": apps + "class B(AppConfig):\n    label = 'three'\n",
            "venv/lib/site-packages/d/migrations/0001_d.py": MIGRATION,
            "venv/lib/site-packages/d/migrations/__init__.py": "",
        },
    )
    for name in "abc":
        fill(tmp_path, **{f"{name}/migrations/__init__.py": "", f"{name}/migrations/0001_{name}.py": MIGRATION})
    assert listed("django", tmp_path) == ["c.0001_c", "one.0001_a", "three.0001_b"]


def test_the_newest_migration_of_every_application_is_declared(tmp_path: Path) -> None:
    """No single name is the newest of all, and a ledger has those of installed packages besides."""
    for path in ("shop/migrations/0012_a", "users/migrations/0001_a", "users/migrations/0002_b"):
        fill(tmp_path, **{f"{path}.py": MIGRATION, f"{path.split('/')[0]}/migrations/__init__.py": ""})
    tool = find_dialect("django")
    declared = tool.declare(tool.directory(tmp_path))
    assert (declared.name, declared.count) == ("shop.0012_a,users.0002_b", 3)
    assert Revision.parse(str(declared)) == declared
    packages = [Record(f"auth.{number:04}", State.APPLIED) for number in range(12)]
    names = ("users.0001_a", "shop.0012_a", "users.0002_b")
    records = [Record(name, State.APPLIED) for name in names]
    for count in range(len(records) + 1):
        ledger = tool.build_ledger([*packages, *records[:count]])
        complete = count == len(records)
        assert ledger.is_complete_for(declared) is ledger.contains(declared.name) is complete
        assert ledger.position_for(declared.name) is (Position.AT_HEAD if complete else Position.BEHIND)
    later = tool.build_ledger([*records, Record("shop.0013", State.APPLIED)])
    assert later.position_for(declared.name) is Position.AHEAD
    assert later.is_complete_for(declared)


def test_the_order_in_an_application_of_django_is_that_of_its_dependencies(tmp_path: Path) -> None:
    """A name without a number may be the newest; a squashed migration comes after what it replaces."""
    depends = "class Migration:\n    dependencies = [('shop', '{}')]\n"
    fill(
        tmp_path,
        **{
            "shop/migrations/__init__.py": "",
            "shop/migrations/zero.py": MIGRATION,
            "shop/migrations/0009_old.py": depends.format("zero"),
            "shop/migrations/last.py": depends.format("0009_old"),
        },
    )
    assert listed("django", tmp_path) == ["shop.zero", "shop.0009_old", "shop.last"]
    squashed = "class Migration:\n    replaces = [('shop', 'zero'), ('shop', '0009_old'), ('shop', 'last')]\n"
    fill(tmp_path, **{"shop/migrations/0001_squashed.py": squashed})
    assert listed("django", tmp_path)[-1] == "shop.0001_squashed"


def test_settings_may_move_the_migrations_of_an_application(tmp_path: Path) -> None:
    """To a package elsewhere, or to none; what is not there, or not Python, is a problem."""
    fill(
        tmp_path,
        **{
            "a/migrations/__init__.py": "",
            "a/migrations/0001_a.py": MIGRATION,
            "b/migrations/__init__.py": "",
            "b/migrations/0001_b.py": MIGRATION,
            "site/db/c/0001_c.py": MIGRATION,
            "site/settings/base.py": "MIGRATION_MODULES = {'a': None, 'c': 'db.c'}\n",
            "site/settings/test.py": "MIGRATION_MODULES = {'b': None}\n",
            "site/settings/computed.py": "MIGRATION_MODULES = make()\n",
        },
    )
    assert listed("django", tmp_path) == ["b.0001_b", "c.0001_c"]
    fill(
        tmp_path, **{"other_settings.py": "MIGRATION_MODULES = {'d': 'gone.d'}\n", "settings.py": "MIGRATION_MODULES ="}
    )
    text = refusal("django", tmp_path)
    assert "MIGRATION_MODULES names gone.d for d" in text
    assert "settings.py: expected Python" in text


def test_one_application_of_django_may_be_named(tmp_path: Path) -> None:
    """Its package `migrations` itself is the directory."""
    fill(tmp_path / "shop", **{"migrations/__init__.py": "", "migrations/0001_a.py": MIGRATION})
    assert listed("django", tmp_path / "shop" / "migrations") == ["shop.0001_a"]


def test_a_link_to_nothing_counts(tmp_path: Path) -> None:
    """A tool that lists names takes it and stops; to leave it out would declare an older revision."""
    fill(tmp_path, **{"1_a.sql": ""})
    (tmp_path / "2_b.sql").symlink_to("gone")
    assert listed("dbmate", tmp_path) == ["1_a", "2_b"]


def test_a_link_to_a_directory_above_ends(tmp_path: Path) -> None:
    """Each directory is read once, although Flyway follows links."""
    fill(tmp_path, **{"sub/V1__a.sql": ""})
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    assert listed("flyway", tmp_path) == ["V1__a"]


def test_what_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    """A loop of links, and a name that is no text."""
    (tmp_path / "loop").symlink_to("loop")
    assert "expected a directory" in refusal("knex", tmp_path / "loop")
    (tmp_path / "a\udcff.js").touch()
    assert "expected names in UTF-8" in refusal("knex", tmp_path)


@pytest.mark.parametrize(
    ("dialect", "stem", "extensions", "others"),
    [
        ("knex", "{}", "co coffee eg iced js cjs litcoffee ls ts", "mjs mts cts sql json d.ts js.map"),
        ("node-pg-migrate", "{}", "sql js cjs mjs ts cts mts", "json d.ts d.cts d.mts"),
        ("umzug", "{}", "sql js cjs mjs ts cts mts", "json d.ts d.cts d.mts down.sql"),
        ("typeorm", "{}-A", "js cjs mjs ts cts mts", "json d.ts js.map"),
        ("flyway", "V{}__a", "sql SQL java class", "sql.conf json"),
        ("goose", "{}_a", "sql go", "json sql.orig"),
        ("yoyo", "{}", "py sql", "rollback.sql pyc"),
    ],
)
def test_every_extension_counts(dialect: str, stem: str, extensions: str, others: str, tmp_path: Path) -> None:
    """Every extension that a tool loads by default counts, and no other one."""
    for number, extension in enumerate([*extensions.split(), *others.split()], start=1_700_000_000_000):
        fill(tmp_path, **{f"{stem.format(number)}.{extension}": ""})
    assert len(listed(dialect, tmp_path)) == len(extensions.split())


def test_what_compilers_make_of_a_class_of_typeorm(tmp_path: Path) -> None:
    """A function, or a class without a name; where a file shows no number, its own name may have one."""
    fill(
        tmp_path,
        **{
            "a.js": "var AddUsers1700000000001 = (function () { function AddUsers1700000000001() {} })();",
            "b.js": "exports.AddUsers1700000000002 = class {};",
            "AddUsers1700000000003.js": "module.exports = make();",
            "helper.js": "exports.helper = 1;",
        },
    )
    assert listed("typeorm", tmp_path) == ["1700000000001", "1700000000002", "1700000000003"]


def test_several_files_of_one_name_are_one_migration(tmp_path: Path) -> None:
    """The source and what was compiled from it, or a file that applies and one that undoes."""
    fill(tmp_path, **dict.fromkeys(("1_a.js", "1_a.ts", "2_b.up.sql", "2_b.down.sql"), ""))
    assert listed("knex", tmp_path) == ["1_a"]
    assert listed("golang-migrate", tmp_path) == ["2_b"]


def test_a_directory_in_the_place_of_prismas_file(tmp_path: Path) -> None:
    """Prisma stops at it."""
    fill(tmp_path, **{"1_a/migration.sql": "", "2_b/migration.sql/x": ""})
    assert "2_b: expected a migration.sql in it" in refusal("prisma", tmp_path)


def test_a_line_end_in_a_name_counts(tmp_path: Path) -> None:
    """A tool looks at the end of a name only, so that the file is the newest migration."""
    fill(tmp_path, **{"1_a.js": "", "2_b\nc.js": ""})
    assert listed("knex", tmp_path) == ["1_a", "2_b\nc"]


def test_directories_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project may have a database's files beside its own; a directory of migrations is read whole or not at all."""
    fill(tmp_path, **{"a.py": "revision = 'a'\n", "V1__a.sql": "", "closed/b.py": "", "closed/V2__b.sql": ""})
    scandir = os.scandir

    def scan(path: str) -> object:  # root may read everything
        if Path(path).name == "closed":
            raise PermissionError(EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert listed("alembic", tmp_path) == ["a"]
    assert "closed: expected to read it: Permission denied" in refusal("flyway", tmp_path)


@pytest.mark.parametrize(
    ("dialect", "names"),
    [
        ("rails", ("1_a.rb", "1a_b.rb", "2_CamelCase.rb")),
        ("sqlx", ("1_a.sql", "x_1.sql", "-_1.sql")),
        ("goose", ("1_a.sql", "2_b.sql", "01_a.sql", "002_b.go")),
        ("prisma", ("a/migration.sql", "b/x", "c/y")),
    ],
)
def test_every_problem_of_a_directory_is_reported_at_once(dialect: str, names: tuple[str, ...], tmp_path: Path) -> None:
    """Each of two files or pairs has a sentence of its own."""
    fill(tmp_path, **dict.fromkeys(names, ""))
    with pytest.raises(ExternalFilesError) as error:
        find_dialect(dialect).directory(tmp_path)
    assert len(error.value.problems) == 2
