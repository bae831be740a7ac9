"""The transactions that lint takes for a tool's are those that the real tool makes, on the tool's own directory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from migrations.lint.scripts.history import read_directory
from testbed.tools import driver
from testbed.tools.start import start
from tests.lint_command import run, write

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from testbed.tools.driver import Tool

pytestmark = pytest.mark.timeout(1500)  # the first test installs the tools

TABLE = "create table users (id bigint primary key, email text);\n"
ALONE = "create index concurrently users_email on users (email);\n"
VARIANTS = {
    "alone": ALONE,
    "mixed": f"alter table users add column age int;\n{ALONE}",
    "after-commit": f"begin;\nalter table users add column age int;\ncommit;\n{ALONE}",
}
TOOLS = ("dbmate", "drizzle", "golang-migrate", "goose", "node-pg-migrate", "sqlx")
JAVASCRIPT = {"node-pg-migrate", "drizzle"}
_STAMPS = (1700000000000, 1700000000001)


def _marked(up: str, down: str) -> tuple[str, str]:
    return (f"{up}\n{TABLE}{down}\ndrop table users;\n", f"{up}\n{{}}{down}\nselect 1;\n")


def files(tool: str, sql: str) -> dict[str, str]:
    """Return the files of a tool's project whose second migration has the SQL."""
    first, second = "20250101000001_first", "20250101000002_second"
    match tool:
        case "dbmate" | "goose" | "node-pg-migrate":
            words = {
                "dbmate": ("-- migrate:up", "-- migrate:down"),
                "goose": ("-- +goose Up", "-- +goose Down"),
                "node-pg-migrate": ("-- Up Migration", "-- Down Migration"),
            }
            if tool == "node-pg-migrate":
                first, second = (f"{stamp}_step" for stamp in _STAMPS)
            texts = _marked(*words[tool])
            return {f"migrations/{first}.sql": texts[0], f"migrations/{second}.sql": texts[1].format(sql)}
        case "golang-migrate" | "sqlx":
            pairs = {first: (TABLE, "drop table users;\n"), second: (sql, "select 1;\n")}
            found = {
                f"migrations/{name}.{direction}.sql": text
                for name, texts in pairs.items()
                for direction, text in zip(("up", "down"), texts, strict=True)
            }
            return found | ({"Cargo.toml": "[package]\n"} if tool == "sqlx" else {})
        case _:
            entries = [
                {"idx": number, "version": "7", "when": stamp, "tag": name, "breakpoints": True}
                for number, (stamp, name) in enumerate(zip(_STAMPS, (first, second), strict=True))
            ]
            journal = json.dumps({"version": "7", "dialect": "postgresql", "entries": entries})
            return {
                "migrations/meta/_journal.json": journal,
                f"migrations/{first}.sql": TABLE,
                f"migrations/{second}.sql": sql,
            }


def started(tool: str, project: Path, url: str) -> AbstractContextManager[Tool]:
    """Start a tool in its project."""
    return driver.javascript(tool, project, url) if tool in JAVASCRIPT else start(tool, project, url)


@pytest.mark.parametrize(
    ("tool", "variant"),
    [
        *((tool, variant) for tool in TOOLS for variant in ("alone", "mixed")),
        ("golang-migrate", "after-commit"),
    ],
)
def test_a_tool_refuses_what_lint_says_it_refuses(tool: str, variant: str, tmp_path: Path, database: str) -> None:
    """CONCURRENTLY fails in a transaction: the tool reports it exactly where lint has that error.

    Flyway is not run: it holds a transaction open in a second session while it migrates, for which CONCURRENTLY waits.
    Nor is Prisma: the engine that can be had here splits a script, which the native one sends as one query.
    """
    write(tmp_path, files(tool, VARIANTS[variant]))
    directory = tmp_path / "migrations"
    layout = read_directory(directory, "auto", ()).layout
    assert layout == ("ledgergate" if tool == "dbmate" else tool)  # whose convention for sections it follows
    refused = "cannot-run-in-transaction" in [finding["rule"] for finding in run(directory).document["findings"]]
    with started(tool, tmp_path, database) as program:
        error = program("all").error
    assert refused == (error is not None), error
