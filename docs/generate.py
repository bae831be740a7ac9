"""Write the parts of docs/ that restate code or a record: `make docs`.

A page keeps its hand-written text; what stands between two markers is replaced.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from migrations.lint.linter import RULES
from testbed import matrix
from testbed.cluster.rights import granted, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from migrations.lint.rule import Rule

ROOT = Path(__file__).parents[1]
CRD = ROOT / "manifests/chart/files/crd/ledgergates.yaml"
ROLES = ROOT / "manifests/chart/files/base"
ACCOUNTS = ("controller", "webhook")
_SECTION = re.compile(r"(<!-- generated: (\w+), by `make docs` -->\n).*?(<!-- end -->)", re.DOTALL)
_TITLES = {
    "index-not-concurrent": "Indexes",
    "check-not-valid": "Constraints",
    "type-change": "Types",
    "volatile-default": "Columns",
    "drop-without-contract": "What older images use",
    "table-rewrite": "Whole tables",
    "partition": "Partitions",
    "mixed-ddl-dml": "Rows",
    "cannot-run-in-transaction": "Transactions",
    "short-lock": "Short locks",
    "if-not-exists": "Advice",
    "file": "Files and comments",
}
"""By the first rule of a group: the group's heading."""


def render(page: str) -> str:
    """Return a page with its generated sections renewed.

    Args:
        page: The page's whole text.
    """
    return _SECTION.sub(lambda match: f"{match[1]}\n{_SECTIONS[match[2]]().strip()}\n\n{match[3]}", page)


def pages() -> list[Path]:
    """Return the pages of docs/ that have a generated section."""
    return [path for path in sorted((ROOT / "docs").rglob("*.md")) if _SECTION.search(path.read_text(encoding="utf-8"))]


def rules() -> str:
    """Return a section per lint rule, in the order of `ledgergate migrate lint --rules`."""
    return "\n".join(line for rule in RULES for line in _rule(rule))


def _rule(rule: Rule) -> Iterator[str]:
    if rule.name in _TITLES:
        yield from (f"## {_TITLES[rule.name]}", "")
    yield from (f"### {rule.name}", "")
    yield textwrap.fill(f"{rule.summary} {rule.details}", 118, break_long_words=False, break_on_hyphens=False)
    yield from ("", f"- Level: {rule.level}")
    if rule.lock:
        yield f"- Locks: {rule.lock}, which blocks {rule.lock.blocks}"
    yield f"- Source: {_source(rule.source)}"
    if rule.others:
        yield f"- Elsewhere: {', '.join(f'`{name}`' for name in rule.others)}"
    yield from ("", "```sql", *rule.safe, "```", "")


def _source(source: str) -> str:
    """Return a link to the source of a rule: a page of PostgreSQL's documentation, or one of docs/."""
    page = source.removeprefix("docs/")
    return f"<{source}>" if "://" in source else "this page" if page == "lint.md" else f"[{page}]({page})"


def spec() -> str:
    """Return the table of the fields of a LedgerGate's spec, from the CRD."""
    return _table(_schema()["spec"])


def status() -> str:
    """Return the table of the fields of a LedgerGate's status, from the CRD."""
    return _table(_schema()["status"], spec=False)


def _schema() -> dict[str, Any]:
    crd = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    properties: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return properties


def _table(schema: dict[str, Any], *, spec: bool = True) -> str:
    head = ["field", "values", "default", "description"] if spec else ["field", "values", "description"]
    rows = [head, ["---"] * len(head)]
    for path, field, required in fields(schema):
        default = "required" if required else _default(field)
        cells = [f"`{path}`", _values(field), default, field.get("description", "")]
        rows.append(cells if spec else [cells[0], cells[1], cells[3]])
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(text: str) -> str:
    """Escape what Markdown would read as a column's end or a tag."""
    return text if text.startswith("`") else text.replace("|", "\\|").replace("<", "&lt;")


def fields(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield each field below a schema: its path, its own schema, and whether its object must have it.

    Args:
        schema: An object's schema, as the CRD has it.
        prefix: The object's path, with a trailing dot.
    """
    for name, field in schema.get("properties", {}).items():
        yield f"{prefix}{name}", field, name in schema.get("required", ())
        inner, mark = (field["items"], "[]") if "items" in field else (field, "")
        yield from fields(inner, f"{prefix}{name}{mark}.")


def _default(field: dict[str, Any]) -> str:
    return f"`{field['default']}`" if "default" in field else ""


def _values(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"] if isinstance(value, str))
    if "additionalProperties" in field:
        return "map of strings"
    if field.get("type") == "array":
        return f"list of {field['items'].get('type', 'object')}s"
    return "date and time" if field.get("format") == "date-time" else str(field.get("type", ""))


def rights() -> str:
    """Return what `kubectl auth can-i --list` says of each account in its own namespace, from the roles."""
    roles = [
        each for file in sorted(ROLES.glob("roles-*.yaml")) for each in yaml.safe_load_all(file.read_text("utf-8"))
    ]
    every, lines = list(granted(roles)), list[str]()
    for account in ACCOUNTS:
        rows = [("Resources", "Resource Names", "Verbs"), *listed(right for right in every if right.account == account)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        command = f"kubectl auth can-i --list -n ledgergate --as system:serviceaccount:ledgergate:{account}"
        table = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        lines += [f"### The {account}", "", "```console", f"$ {command}", *table, "```", ""]
    return "\n".join(lines)


def versions() -> str:
    """Return the table of what was run on each version and when, from the record of `make matrix`."""
    record = json.loads(matrix.RESULTS.read_text(encoding="utf-8"))
    rows = [["", "supported", "run on", "release", "passed", "failed", "skipped"]]
    rows.append(["---"] * len(rows[0]))
    failures: list[str] = []
    for version in matrix.versions():
        product = {"postgres": "PostgreSQL", "kubernetes": "Kubernetes"}[version.product]
        found = record.get(version.key)
        if found is None:
            rows.append([product, version.name, "not run", version.exact, "", "", ""])
            continue
        counts = (found["passed"], len(found["failed"]), found["skipped"])
        rows.append([product, version.name, found["date"], found["exact"], *map(str, counts)])
        failures += [f"- {product} {version.name}: `{failure}`" for failure in found["failed"]]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    if not record:
        return table
    return "\n".join([table, "", "Failed:", "", *failures]) if failures else f"{table}\n\nNothing that was run failed."


_SECTIONS: dict[str, Callable[[], str]] = {
    "rules": rules,
    "spec": spec,
    "status": status,
    "rights": rights,
    "versions": versions,
}


def main() -> None:
    """Renew every page."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        path.write_text(render(text), encoding="utf-8")


if __name__ == "__main__":
    main()
