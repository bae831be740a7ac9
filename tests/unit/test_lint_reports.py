"""Findings in the forms that other programs read, and the ways into a pipeline that this repository offers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft4Validator, Draft202012Validator

from migrations.lint.linter import RULES
from tests.lint_command import run, write

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SARIF: dict[str, Any] = json.loads((ROOT / "tests" / "schemas" / "sarif-2.1.0.json").read_text())
"""Its source and its licence are in the README beside it."""
# What the schema of OASIS asks for beyond it.
SARIF["definitions"]["region"]["anyOf"] = [{"required": [name]} for name in ("startLine", "charOffset", "byteOffset")]
# The table of https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format: there is no schema of it.
GITLAB: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "additionalProperties": False,
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": "^(?!/|\\./)."},  # relative to the repository
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}
# What the reports are made of: nothing, files of several tools with every kind of finding, what cannot be read.
REPORTED: dict[str, dict[str, str]] = {
    "nothing": {"V1__a.sql": "select 1;\n"},
    "several reasons": {"V1__a.sql": "alter table users drop email, add unique (id), add column at timestamp;\n"},
    "twice in a file": {"V1__a.sql": "truncate users;\ntruncate users;\n"},
    "no SQL": {"V1__a.sql": "create ;", "V2__b.sql": "create table ${what};\n"},
    "no UTF-8": {"V1__a.sql": "select '\udcff';\n", "V2__b.sql": "create index i on users (email);\n"},
    "no files": {"README.md": "x"},
    "odd names": {"V1__ä #?%.sql": "create index i on users (email);\n", "V2__a b,c.sql": "drop table users;\n"},
    "folders": {"20250101000000_a/migration.sql": "create index i on users (email);\n"},
    "a block of code": {"V1__a.sql": "do $$ begin\n  create index i on users (email);\nend $$;\n"},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with findings: of several lines, and with characters that GitHub's commands escape."""
    monkeypatch.chdir(tmp_path)
    files = {"sql/V1__a b,c.sql": "select '%';\n  create index i\n    on users (email);\n", "sql/V2__b.sql": "create ;"}
    return write(tmp_path, files)


def write_reported(name: str) -> None:
    """Write the files of `REPORTED` into `sql`, in which a lone surrogate stands for a byte that is no text."""
    for file, text in REPORTED[name].items():
        path = Path("sql", file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("name", REPORTED)
def test_each_report_is_valid(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SARIF by its official schema, with the formats that it names; GitLab's report by its documentation."""
    monkeypatch.chdir(tmp_path)
    write_reported(name)
    sarif = Draft4Validator(SARIF, format_checker=Draft4Validator.FORMAT_CHECKER)
    document = run("sql", output="sarif", advice=True).document
    assert [f"{error.json_path}: {error.message}" for error in sarif.iter_errors(document)] == []
    assert bool(document["runs"][0]["results"]) is (name != "nothing")
    report = run("sql", output="gitlab", advice=True).document
    assert [f"{e.json_path}: {e.message}" for e in Draft202012Validator(GITLAB).iter_errors(report)] == []
    assert len(report) == len(document["runs"][0]["results"])


def test_sarif_leads_somewhere(home: Path) -> None:
    """Every rule is described, every reference leads to one, and lines and columns are those of the file."""
    document = run("sql", home / "none", output="sarif", advice=True).document
    assert document["version"] == "2.1.0"
    (found,) = document["runs"]
    assert found["columnKind"] == "unicodeCodePoints"
    driver = found["tool"]["driver"]
    assert [rule["id"] for rule in driver["rules"]] == [rule.name for rule in RULES]
    for rule in driver["rules"]:
        assert rule["defaultConfiguration"]["level"] in {"error", "warning", "note"}
        assert rule["help"].keys() == {"text", "markdown"}
    assert [result["ruleId"] for result in found["results"]] == ["file", "index-not-concurrent", "syntax"]
    for result in found["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        (location,) = result["locations"]
        region = location["physicalLocation"].get("region")
        if region is not None:
            assert min(region.values()) >= 1
    location = found["results"][1]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "sql/V1__a%20b%2Cc.sql"
    assert location["region"] == {"startLine": 2, "startColumn": 3, "endLine": 3}


@pytest.mark.usefixtures("home")
def test_githubs_commands_are_escaped() -> None:
    """A line each; a comma in a file's name would begin another property."""
    first, second, summary = run("sql", output="github").output.splitlines()
    assert first.startswith(
        "::error file=sql/V1__a b%2Cc.sql,title=index-not-concurrent (error),line=2,endLine=3::CREATE INDEX blocks "
        "every write to users until it is built%0A%0AThe safe way:%0A"
    )
    assert second.startswith("::error file=sql/V2__b.sql,title=syntax (error),line=1,col=8::syntax error at or near")
    assert summary == "2 errors, 0 warnings in 2 files"


@pytest.mark.usefixtures("home")
def test_gitlabs_report_has_what_gitlab_needs() -> None:
    """Each entry has a fingerprint of its own, also where a file has a statement twice."""
    write(Path(), {"sql/V3__c.sql": "truncate users;\ntruncate users;\n"})
    report = run("sql", output="gitlab").document
    assert len({entry["fingerprint"] for entry in report}) == len(report) == 4  # type: ignore[index]
    names = {"description", "check_name", "fingerprint", "severity", "location"}
    assert all(set(entry) == names for entry in report)
    assert report[0]["location"] == {"path": "sql/V1__a b,c.sql", "lines": {"begin": 2}}  # type: ignore[index]


@pytest.mark.usefixtures("home")
def test_the_text_lists_the_reasons_of_one_statement() -> None:
    """The gravest first, with its safe way; the others below it."""
    write(Path(), {"one.sql": "alter table users drop email, add unique (id), add column at timestamp;\n"})
    lines = run("one.sql", output="text", advice=True).output.splitlines()
    assert lines[0].startswith("one.sql:1: unique-without-index: ")
    assert [line.strip().split(":")[0] for line in lines if line.startswith("    and ")] == [
        "and drop-without-contract",
        "and constraint-without-contract (warning)",
        "and timestamp-without-time-zone (advice)",
    ]
    assert "    4 reasons for one statement" in lines
    assert run("one.sql", output="text").output.splitlines()[-2] == "    3 reasons for one statement"


def test_pre_commit_finds_the_hook() -> None:
    """It has what pre-commit requires, and its command is one of this program."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {"id", "name", "entry", "language"} <= hook.keys()
    assert hook["entry"] == "ledgergate migrate lint"


def steps() -> Iterator[dict[str, Any]]:
    """Yield the steps of the action."""
    yield from yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]


def test_the_action_runs_no_input_as_a_script() -> None:
    """Anyone can choose a branch's name, so inputs and contexts reach scripts through the environment only."""
    for step in steps():
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"


@pytest.mark.usefixtures("home")
def test_the_action_annotates_and_fails() -> None:
    """The action's last step, run as GitHub runs it, annotates the findings and fails."""
    *_, lint = steps()
    write(Path(), {"other/V1__a.sql": "truncate users;\n"})
    environment = {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "LINT_PATH": "sql other",
        "LINT_SINCE": "",
        "LINT_OUTPUT": "github",
        "LINT_ARGS": "--exclude V2__*",
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", lint["run"]]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert [line.partition(",")[0] for line in done.stdout.splitlines()[:-1]] == [
        "::error file=other/V1__a.sql",
        "::error file=sql/V1__a b%2Cc.sql",
    ]
