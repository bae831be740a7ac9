"""`ledgergate migrate revision --output`: what a build and a manifest need of a directory."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from migrations.cli.main import migrate

EXPAND = "-- migrate:up\nselect 1;"
CONTRACT = "-- migrate:up contract compatible-from:20250101000000_a\nselect 2;"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An expand migration and two contracts after it."""
    (tmp_path / "20250101000000_a.sql").write_text(EXPAND)
    (tmp_path / "20250201000000_b.sql").write_text(CONTRACT)
    (tmp_path / "20250301000000_c.sql").write_text(CONTRACT)
    return tmp_path


def output_of(directory: Path, *arguments: str) -> str:
    done = CliRunner().invoke(migrate, ["revision", "--dir", str(directory), *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_revision_is_what_an_image_needs(directory: Path) -> None:
    """Contracts at the end are not needed; one in the middle is."""
    assert output_of(directory) == "20250101000000_a+1.5234a921d098\n"
    (directory / "20250401000000_d.sql").write_text(EXPAND)
    assert output_of(directory).startswith("20250401000000_d+4.")


def test_a_shell_passes_the_labels_on_as_they_are(directory: Path) -> None:
    """`$(...)` without quotes gives a build exactly one argument for each label."""
    text = output_of(directory, "--output", "labels")
    (directory / "arguments").write_text(text)
    words = subprocess.run(
        ["sh", "-c", 'printf "%s\\n" $(cat arguments)'], cwd=directory, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words == [
        "--label",
        "dev.ledgergate.revision=20250101000000_a+1.5234a921d098",
        "--label",
        "dev.ledgergate.contract=20250201000000_b:20250101000000_a,20250301000000_c:20250101000000_a",
    ]
    assert shlex.split(text) == words


def test_the_annotations_are_json_and_yaml(directory: Path) -> None:
    """The output fits in a patch, in `--set-json` and after `annotations:` in a manifest."""
    text = output_of(directory, "-o", "annotations")
    expected = {
        "ledgergate.dev/revision": "20250101000000_a+1.5234a921d098",
        "ledgergate.dev/contract": "20250201000000_b:20250101000000_a 20250301000000_c:20250101000000_a",
    }
    assert json.loads(text) == expected
    assert yaml.safe_load(f"annotations: {text}") == {"annotations": expected}
    assert text.count("\n") == 1


def test_json_has_everything(directory: Path) -> None:
    """The revision, each contract, and the labels and annotations as they are to be set."""
    document = json.loads(output_of(directory, "--output", "json"))
    assert document["revision"] == document["labels"]["dev.ledgergate.revision"]
    assert document["contracts"][0] == {"revision": "20250201000000_b", "compatible_from": "20250101000000_a"}
    assert set(document) == {"revision", "contracts", "labels", "annotations"}


def test_a_tool_that_records_heads_needs_the_ancestors(tmp_path: Path) -> None:
    """Alembic's label and annotation name them, an empty list included."""
    (tmp_path / "1_a.py").write_text('revision = "1a"\ndown_revision = None\n')
    arguments = ("--dialect", "alembic", "-o")
    assert output_of(tmp_path, *arguments, "labels") == (
        "--label dev.ledgergate.revision=1a --label dev.ledgergate.ancestors=\n"
    )
    (tmp_path / "2_b.py").write_text('revision = "2b"\ndown_revision = "1a"\n')
    assert json.loads(output_of(tmp_path, *arguments, "annotations")) == {
        "ledgergate.dev/revision": "2b",
        "ledgergate.dev/ancestors": "1a",
    }


def test_a_value_that_a_shell_would_split_is_refused(tmp_path: Path) -> None:
    """Exit 2 and the quoted command; the other outputs print the name as it is."""
    (tmp_path / "20250101000000_add users.js").write_text("")
    arguments = ["revision", "--dialect", "knex", "--dir", str(tmp_path), "--output"]
    done = CliRunner().invoke(migrate, [*arguments, "labels"])
    assert done.exit_code == 2
    assert '--label dev.ledgergate.revision="$(ledgergate migrate revision)"' in done.stderr
    assert done.stdout == ""
    assert CliRunner().invoke(migrate, [*arguments, "plain"]).stdout.startswith("20250101000000_add users+1.")


def test_ancestors_and_an_output_exclude_each_other(directory: Path) -> None:
    """Exit 2, with both named."""
    done = CliRunner().invoke(migrate, ["revision", "--dir", str(directory), "--ancestors", "--output", "json"])
    assert done.exit_code == 2
    assert "--ancestors or --output json" in done.stderr
