"""What docs/foreign-tools.md and docs/how-to/ show works, with the real tools."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
import pytest
import yaml

from migrations.cli.conventions import Exit
from migrations.cli.main import migrate
from migrations.dialects.catalogue import DIALECTS
from testbed.tools import install
from tests.pages import DOCS, blocks, marked, walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.conftest import Ledgergate

NAME = "foreign-tools.md"
PAGE = (DOCS / NAME).read_text(encoding="utf-8")


def node(home: Path) -> None:
    """The packages of npm."""
    (home / "node_modules").symlink_to(install.npm(install.PINS, install.place(), lambda _: None))


def python(home: Path) -> None:
    """The tools of Python, by their names."""
    interpreter = install.python(install.PINS, install.place(), lambda _: None)
    (home / "bin").mkdir()
    for name, arguments in (("alembic", "-m alembic"), ("python", "")):
        script = home / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{interpreter}" {arguments} "$@"\n')
        script.chmod(0o755)


def alembic(home: Path) -> None:
    """A project of two revisions."""
    python(home)
    (home / "migrations" / "versions").mkdir()
    (home / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/migrations\npath_separator = os\n")
    (home / "migrations" / "env.py").write_text(
        "import os\nfrom alembic import context\nfrom sqlalchemy import create_engine\n"
        'url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:", 1)\n'
        "with create_engine(url).connect() as connection:\n"
        "    context.configure(connection=connection)\n"
        "    with context.begin_transaction():\n        context.run_migrations()\n"
    )
    for name, down in (("ae1027a6acf5", None), ("b3f1c2d4e5a6", "ae1027a6acf5")):
        text = f"from alembic import op\nrevision = {name!r}\ndown_revision = {down!r}\n"
        text += f'def upgrade():\n    op.execute("create table t_{name} (id int)")\n'
        (home / "migrations" / "versions" / f"{name}_x.py").write_text(text)


def django(home: Path) -> None:
    """A project of one app."""
    python(home)
    (home / "shop" / "migrations").mkdir(parents=True)
    for name in ("shop/__init__.py", "shop/migrations/__init__.py"):
        (home / name).touch()
    (home / "shop" / "migrations" / "0001_initial.py").write_text(
        "from django.db import migrations, models\nclass Migration(migrations.Migration):\n    operations = [\n"
        '        migrations.CreateModel("Order", [("id", models.AutoField(primary_key=True))])\n    ]\n'
    )
    (home / "manage.py").write_text(
        "import os, sys\nfrom urllib.parse import urlsplit\nfrom django.conf import settings\n"
        "from django.core.management import execute_from_command_line\n"
        'url = urlsplit(os.environ["DATABASE_URL"])\n'
        'settings.configure(INSTALLED_APPS=["shop"], DATABASES={"default": {"ENGINE": "django.db.backends.postgresql",'
        ' "HOST": url.hostname, "PORT": url.port, "NAME": url.path[1:], "USER": url.username,'
        ' "PASSWORD": url.password}})\nexecute_from_command_line(sys.argv)\n'
    )


PROJECTS: dict[str, Callable[[Path], None]] = {"knex": node, "alembic": alembic, "django": django}


@pytest.mark.parametrize("name", PROJECTS)
def test_what_is_shown_runs(ledgergate: Ledgergate, name: str) -> None:
    """The marked blocks, from top to bottom, in one shell that stops at the first command that fails."""
    try:
        PROJECTS[name](ledgergate.home)
    except install.InstallError as reason:
        pytest.skip(str(reason))
    mark, page = f"# run {name}\n", NAME if name == "knex" else f"how-to/{name}.md"
    assert len(marked(page, mark)) == (4 if name == "knex" else 1)
    path = f"{ledgergate.home / 'bin'}{os.pathsep}{ledgergate.shell['PATH']}"
    printed = walk(page, ledgergate.home, {**ledgergate.shell, "PATH": path}, mark)
    assert "done: the ledger is at" in printed


def test_the_manifest_names_a_command_that_there_is() -> None:
    """Its command line is one that the program takes."""
    (manifest,) = [document for text in blocks(NAME, "yaml") for document in yaml.safe_load_all(text)]
    command = manifest["spec"]["template"]["spec"]["initContainers"][0]["command"]
    assert command[:3] == ["ledgergate", "migrate", "exec"]
    context = migrate.commands["exec"].make_context("exec", command[3:])
    assert context.params["command"] == ("npm", "run", "migrate:latest")


def test_every_flag_code_and_dialect_is_explained() -> None:
    """Each flag of `exec`, exit code and dialect has its row in the page."""
    own = {"--expect", "--dialect", "--clear-stale-lock", "--timeout"}
    flags = {option.opts[0] for option in migrate.commands["exec"].params if isinstance(option, click.Option)}
    assert own <= flags
    assert all(f"\n| `{flag}" in PAGE for flag in own)
    codes = PAGE.partition("| exit code |")[2]
    assert all(f"\n| {code.value} |" in codes for code in Exit)
    expected = PAGE.partition("## What an image expects")[2].partition("## Moving")[0]
    assert all(name in expected for name in DIALECTS if name not in {"auto", "ledgergate"})
