"""What the guides say can be read, applied and run: their manifests, their commands, their links."""

import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from migrations.cli.main import migrate
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from tests.pages import DOCS, blocks, links, walk

PAGES = [
    "README.md",
    "quick-start.md",
    "install.md",
    "reference.md",
    "foreign-tools.md",
    "migrate.md",
    "guard.md",
    "workloads.md",
    "concepts.md",
    "operations.md",
    "expand-contract.md",
    "comparison.md",
    "failure-modes.md",
    *(f"how-to/{path.name}" for path in sorted((DOCS / "how-to").iterdir())),
]
DJANGO = "class Migration: ...\n"
HEAD = "revision = {!r}\ndown_revision = {!r}\n"
PROJECTS: dict[str, tuple[dict[str, str], str]] = {
    "knex": (
        {"migrations/20250101000000_users.ts": "", "migrations/20250102000000_orders.js": ""},
        "20250102000000_orders+2.",
    ),
    "alembic": (
        {
            "migrations/versions/1975ea83b712_users.py": HEAD.format("1975ea83b712", None),
            "migrations/versions/ae1027a6acf5_orders.py": HEAD.format("ae1027a6acf5", "1975ea83b712"),
        },
        "ae1027a6acf5\n1975ea83b712\n",
    ),
    "django": (
        {
            "users/migrations/__init__.py": "",
            "users/migrations/0001_initial.py": DJANGO,
            "orders/migrations/__init__.py": "",
            "orders/migrations/0002_order_total.py": DJANGO,
        },
        "orders.0002_order_total,users.0001_initial+2.",
    ),
    "prisma": (
        {f"prisma/migrations/2025010{day}000000_step/migration.sql": "" for day in (1, 2)},
        "20250102000000_step+2.",
    ),
    "flyway": ({"sql/V1_2__users.sql": "", "sql/V1_3__orders.sql": "", "sql/R__views.sql": ""}, "1.3+3."),
}
"""By tool: the files of a small project, and how what its page prints begins."""


@pytest.mark.parametrize("tool", PROJECTS)
def test_a_guide_finds_what_an_image_expects(tool: str, tmp_path: Path) -> None:
    """The commands of a guide's image give the revision of the tool's own files."""
    files, printed = PROJECTS[tool]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    assert walk(f"how-to/{tool}.md", tmp_path, {"PATH": path}).startswith(printed)


def test_every_guide_is_tested() -> None:
    """A new page fails here until `PROJECTS` has it; the annotation's page is tested beside the quick start."""
    assert {f"{tool}.md" for tool in PROJECTS} | {"annotation.md"} == {
        path.name for path in (DOCS / "how-to").iterdir()
    }


@pytest.mark.parametrize("page", PAGES)
def test_manifests_are_accepted(page: str, plane: ControlPlane, installation: Installation, namespace: str) -> None:
    """The API server accepts every object that a page shows; a piece of an object is at least valid YAML."""
    del installation
    found = [part for text in blocks(page, "yaml") for part in yaml.safe_load_all(text)]
    objects = [part for part in found if "kind" in part]
    for part in objects:
        part["metadata"] = {"name": "x", **part["metadata"], "namespace": namespace}
        part["metadata"].pop("generateName", None)  # `kubectl apply` refuses it
        said = plane.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(part))
        assert "serverside-applied" in said


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Every file that a page names is there."""
    assert [str(target) for target in links(page) if not target.exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_the_flags_that_pages_show(page: str) -> None:
    """Every command and flag of `ledgergate migrate` that a page shows exists."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    for name, rest in re.findall(r"ledgergate migrate ([a-z]+)((?:[^\n#|)]|\)\")*)", text):
        words = re.sub(r"\$\([^)]*\)|\"|'|>.*", "", rest).split()
        known = {
            flag for parameter in migrate.commands[name].params for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        own = words[: words.index("--")] if "--" in words else words
        assert [word for word in own if word.startswith("--") and word not in known] == [], rest
