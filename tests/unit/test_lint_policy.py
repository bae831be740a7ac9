"""What a team decides outside of the files: levels, allowances, a baseline, and what makes lint fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import click
import pytest

from tests.lint_command import run, write

if TYPE_CHECKING:
    from pathlib import Path

INDEX = "create index users_email on users (email);\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with Flyway's files."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"sql/V1__a.sql": INDEX, "sql/V2__b.sql": "update users set email = null;\ntruncate users;\n"})
    return tmp_path


def test_the_settings_change_levels_and_what_fails(home: Path) -> None:
    """`[lint]` of ledgergate.toml; a flag comes before it."""
    assert run("sql").code == 2
    write(
        home,
        {
            "ledgergate.toml": '[lint]\nfail-on = "error"\n[lint.rules]\nindex-not-concurrent = "warning"\n'
            'truncate = "off"\nbulk-write = "advice"\n'
        },
    )
    result = run("sql")
    levels = {finding["rule"]: finding["level"] for finding in result.document["findings"]}
    assert (result.code, levels) == (
        0,
        {"index-not-concurrent": "warning", "bulk-write": "advice"},
    )
    assert run("sql", fail_on="warning").code == 2
    assert run("sql", fail_on="advice").code == 2
    assert run("sql", fail_on="never").code == 0
    write(home, {"ledgergate.toml": '[lint]\nexclude = ["V1__*", "V2*"]\n'})
    assert run("sql").document["files"] == 0


def test_every_mistake_in_the_settings_is_named_at_once(home: Path) -> None:
    """All mistakes are reported at once, each with what was expected."""
    write(
        home,
        {
            "ledgergate.toml": '[lint]\ndialect = "mysql"\nfail-on = "all"\npg-version = "15"\nother = 1\n'
            'exclude = "x"\n'
            '[lint.rules]\nnope = "off"\ntruncate = "loud"\n'
        },
    )
    with pytest.raises(click.UsageError) as caught:
        run("sql")
    for word in ("dialect", "fail-on", "pg-version", "'other'", "exclude", "'nope'", "truncate"):
        assert word in caught.value.message
    write(home, {"ledgergate.toml": ""})
    with pytest.raises(click.UsageError, match=r"expected --dialect among(.|\n)*expected --fail-on among"):
        run("sql", dialect="mysql", fail_on="all")


def test_a_baseline_leaves_out_what_was_there(home: Path) -> None:
    """A new statement is found, also in an old file, and an old one where it moves within its file."""
    result = run("sql", write_baseline=True, output="text")
    assert (result.code, result.output.splitlines()[0]) == (0, "wrote 3 findings into sql/lint.toml")
    result = run("sql")
    assert (result.code, result.found(), result.document["known"]) == (0, [], 3)
    write(home, {"sql/V1__a.sql": f"\n\n  {INDEX}create index j on users (id);\n"})
    assert run("sql").found() == [("V1__a.sql", 4, "index-not-concurrent")]


def test_a_baseline_that_is_too_large_is_noted(home: Path) -> None:
    """A note says that the baseline allows more than there is: it would hide the same statement later."""
    run("sql", write_baseline=True)
    write(home, {"sql/V1__a.sql": "select 1;\n"})
    result = run("sql")
    assert [note for note in result.document["notes"] if "V1__a.sql" in note and "--write-baseline" in note]
    run("sql", write_baseline=True)
    assert run("sql").document["notes"] == []


def test_the_baseline_keeps_what_is_written_above_it(home: Path) -> None:
    """Allowances and comments above the generated part are kept, since people write them."""
    allow = '# ours\n[[allow]]\nfile = "V2*"\nrules = ["truncate"]\nbecause = "a cache"\n'
    write(home, {"sql/lint.toml": allow})
    for _ in range(2):
        run("sql", write_baseline=True)
        text = (home / "sql/lint.toml").read_text()
        assert text.startswith(allow)
        assert text.count("[baseline]") == 1
        assert "truncate" not in text.partition("[baseline]")[2]
    assert run("sql").found() == []


def test_files_may_be_allowed_to_break_several_rules(home: Path) -> None:
    """Without a comment in a file that is applied already."""
    entry = '[[allow]]\nfile = "V2__b.sql"\nrules = ["truncate", "bulk-write"]\nbecause = "a cache"\n'
    write(home, {"sql/lint.toml": entry})
    result = run("sql")
    assert result.found() == [("V1__a.sql", 1, "index-not-concurrent")]
    assert result.document["notes"] == []
    write(home, {"sql/V2__b.sql": "select 1;\n"})
    assert "no finding needs the allowance of bulk-write, truncate" in run("sql").document["notes"][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "expected [[allow]] and [baseline], got 'x'"),
        ('[[allow]]\nfile = "a"\nrules = ["truncate"]\n', "expected [[allow]] number 1 to have"),
        ('[[allow]]\nfile = "a"\nrules = ["nope"]\nbecause = "x"\n', "got nope"),
        ('[[allow]]\nfile = "a"\nrules = ["truncate"]\nbecause = " "\n', "expected a reason"),
        ('[baseline]\n"a" = ["x"]\n', "expected [baseline] as --write-baseline writes it"),
        ("[", "lint.toml"),
    ],
)
def test_a_mistake_in_lint_toml_is_named(text: str, said: str, home: Path) -> None:
    """A mistake in lint.toml is reported with the name of the file."""
    write(home, {"sql/lint.toml": text})
    with pytest.raises(click.UsageError) as caught:
        run("sql")
    assert said in caught.value.message
    assert "lint.toml" in caught.value.message


def test_several_rules_are_allowed_by_one_comment(home: Path) -> None:
    """A rule of them that the statement does not break is a warning."""
    rules = "drop-without-contract, unique-without-index, constraint-without-contract"
    allowed = f"-- lint:allow {rules} because no image uses it\n"
    write(
        home,
        {"sql/V1__a.sql": f"{allowed}alter table users drop email, add unique (id);\n", "sql/V2__b.sql": "select 1;"},
    )
    assert run("sql").found() == []
    write(home, {"sql/V1__a.sql": f"{allowed}alter table users drop email;\n"})
    assert run("sql").found() == [("V1__a.sql", 1, "unused-allow")]


@pytest.fixture
def repository(home: Path) -> Path:
    """A repository with 500 old findings on its branch main, and a branch with one new bad file."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    write(home, {f"sql/V{n}__old.sql": f"create index i{n} on users (email);\n" for n in range(10, 508)})
    git(home, "init", "-q", "-b", "main")
    git(home, "add", "-A")
    git(home, "commit", "-qm", "old")
    git(home, "checkout", "-qb", "topic")
    write(home, {"sql/V600__new.sql": "alter table users alter email type varchar(5);\n"})
    git(home, "add", "-A")
    git(home, "commit", "-qm", "new")
    return home


def git(home: Path, *arguments: str) -> None:
    """Run git as someone."""
    names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **names, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", *arguments], cwd=home, env=environment, check=True, capture_output=True, timeout=60)


@pytest.mark.usefixtures("repository")
def test_only_what_is_new_since_a_revision_is_judged() -> None:
    """One finding in text, SARIF and GitHub's form, and exit code 2, among 500 old findings."""
    assert run("sql").document["counts"]["error"] == 501
    result = run("sql", since="main")
    assert (result.code, result.found()) == (2, [("V600__new.sql", 1, "type-change")])
    assert (result.document["files"], result.document["older"]) == (1, 500)
    text = run("sql", since="main", output="text")
    assert text.code == 2
    assert text.output.splitlines()[0].startswith("sql/V600__new.sql:1: type-change: ")
    assert text.output.splitlines()[-1] == "1 error, 0 warnings in 1 file (500 older ones read for the schema)"
    sarif = run("sql", since="main", output="sarif")
    assert (sarif.code, [r["ruleId"] for r in sarif.document["runs"][0]["results"]]) == (2, ["type-change"])
    github = run("sql", since="main", output="github")
    assert (github.code, github.output.count("::error ")) == (2, 1)
    assert github.output.startswith("::error file=sql/V600__new.sql,")


def test_what_is_not_committed_counts_as_new(repository: Path) -> None:
    """Changed files, staged ones and those that git does not track; not those that it ignores."""
    write(
        repository,
        {
            "sql/V10__old.sql": "create index i10 on users (email); -- changed\n",
            "sql/V601__new.sql": INDEX,
            "sql/V602__ignored.sql": INDEX,
            ".gitignore": "*ignored*\n",
        },
    )
    assert [file for file, _, _ in run("sql", since="main").found()] == [
        "V10__old.sql",
        "V600__new.sql",
        "V601__new.sql",
    ]
    git(repository, "add", "sql/V601__new.sql")
    assert len(run("sql", since="main").found()) == 3
    assert run("sql", since="HEAD").found()[0][0] == "V10__old.sql"
    git(repository, "rm", "-q", "--cached", "sql/V11__old.sql")
    (repository / "sql/V11__old.sql").unlink()
    assert len(run("sql", since="main").found()) == 3


def test_nothing_new_is_no_finding(repository: Path) -> None:
    """The older files are read, so this is not a directory without files."""
    git(repository, "checkout", "-q", "main")
    result = run("sql", since="topic")
    assert (result.code, result.document["files"], result.document["older"]) == (0, 0, 500)


def test_the_type_of_a_column_comes_from_older_files(repository: Path) -> None:
    """An older file shows that the change rewrites no row."""
    git(repository, "checkout", "-q", "main")
    write(repository, {"sql/V700__t.sql": "create table t (v varchar(10));\n"})
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "t")
    write(repository, {"sql/V701__t.sql": "alter table t alter v type varchar(20);\n"})
    result = run("sql", since="main")
    assert (result.document["files"], result.found()) == (1, [])


@pytest.mark.parametrize(
    ("since", "said"), [("nope", "git merge-base"), ("--all", "expected --since to name a revision")]
)
@pytest.mark.usefixtures("repository")
def test_a_revision_that_git_does_not_know_is_an_error(since: str, said: str) -> None:
    """A shallow clone is the usual reason."""
    with pytest.raises(click.UsageError, match=said):
        run("sql", since=since)


def test_a_directory_outside_a_repository_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a machine without git."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(home.parent))
    if shutil.which("git"):
        with pytest.raises(click.UsageError, match="not a git repository"):
            run("sql", since="main")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(click.UsageError, match="expected the program git on PATH"):
        run("sql", since="main")
