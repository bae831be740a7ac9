"""Figures as tables for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from bench.migrate import CROWD, CROWD_PENDING, MANY, THOUSANDS

Figures = Mapping[str, Any]


def of(name: str, results: Figures) -> Iterator[Table]:
    """Yield the tables of one benchmark's results."""
    makers = {
        "admission": _admission,
        "attack": _attack,
        "creation": _creation,
        "footprint": _footprint,
        "release": _release,
        "images": _release,
        "scale": _release,
        "tenants": _tenants,
        "migrate": _migrate,
        "lint": _lint,
    }
    yield from makers[name](results)


def _admission(results: Figures) -> Iterator[Table]:
    for size, servers in results["servers"].items():
        title = f"reviews of {size} KB, load average {results['load_average']}"
        table = Table("server", "requests/s", "p99", "CPU a request", title=title)
        for name, found in servers.items():
            table.add_row(name, f"{found['rate']:,.0f}", f"{found['p99_ms']:.1f} ms", f"{found['cpu_us']:.0f} µs")
        yield table
    yield _judged(results["figures"])


def _attack(results: Figures) -> Iterator[Table]:
    title = f"good requests beside {results['clients']:,} hostile connections, load average {results['load_average']}"
    table = Table("attack", "median", "p99", "CPU", "quiet: median", "p99", "CPU", "of", title=title)
    for kind, turns in results["attacks"].items():
        cells = []
        for found in (turns["attacked"], turns["quiet"]):
            cells += [f"{found[key]:.1f} ms" for key in ("median_ms", "p99_ms")]
            cells.append(f"{found['server_cpu_share']:.0%}")
        table.add_row(kind, *cells, str(turns["attacked"]["count"]))
    yield table
    yield _judged(results["figures"])


def _creation(results: Figures) -> Iterator[Table]:
    table = Table("pods a second", "namespace", "median", "p99", title="creations of a pod through the API server")
    for rate, namespaces in results["creations"].items():
        for name, found in namespaces.items():
            table.add_row(str(rate), name, f"{found['median_ms']:.1f} ms", f"{found['p99_ms']:.1f} ms")
    yield table
    yield _judged(results["figures"])


def _judged(figures: Sequence[Figures]) -> Table:
    table = Table("figure", "ratio", "target", "holds")
    for found in figures:
        holds = "yes" if found["holds"] else "no"
        table.add_row(found["figure"], f"{found['ratio']:.2f}", f"{found['target']:g}", holds)
    return table


def _footprint(results: Figures) -> Iterator[Table]:
    table = Table("what", "MB", title=f"resident memory; the peak at a start among {results['pods']:,} pods")
    for name, mb in results["resident_mb"].items():
        table.add_row(name, f"{mb:.0f}")
    yield table
    yield _judged(results["figures"])


def _release(results: Figures) -> Iterator[Table]:
    table = Table("what", "median", "p95", "max", "of", title="releases")
    for what, found in results.items():
        if what == "figures":
            continue
        times = (f"{found[key]:.0f} ms" for key in ("median_ms", "p95_ms", "max_ms"))
        table.add_row(what, *times, str(found["count"]))
    yield table
    if "figures" in results:
        yield _judged(results["figures"])


def _lint(results: Figures) -> Iterator[Table]:
    title = f"{results['histories']} histories, against what PostgreSQL did"
    table = Table("PostgreSQL", "linter", "class", "of", "recall", "precision", title=title)
    for version, linters in results["versions"].items():
        for linter, classes in linters.items():
            for name, found in classes.items():
                shares = (f"{found[share]:.1f} %" for share in ("recall", "precision"))
                table.add_row(version, linter, name, str(found["real"]), *shares)
    yield table
    table = Table("files", "wall", "CPU", title="ledgergate migrate lint")
    for count, found in results["seconds"].items():
        table.add_row(count, f"{found['wall_s']} s", f"{found['cpu_s']} s")
    yield table


def _tenants(results: Figures) -> Iterator[Table]:
    table = Table("what", "measured", title=f"{results['gates']:,} LedgerGates on one server")
    rest, release = results["rest"], results["release"]
    for what, found in (
        ("every status after a cold start", f"{results['cold_start_s']} s"),
        ("after the leader's restart", f"{results['restart_s']} s"),
        ("sessions while starting, at most", results["most_sessions_while_starting"]),
        ("sessions at rest, on average", rest["mean_sessions"]),
        ("CPU of the leader at rest", f"{rest['leader_cpu_share']:.1%} of a core"),
        ("CPU of its workers at rest", f"{rest['workers_cpu_share']:.1%} of a core"),
        ("memory of all", f"{rest['leader_mb'] + sum(rest['workers_mb'])} MB"),
        ("a release after its commit, median", f"{release['median_ms']:.0f} ms"),
        ("connections of others refused", results["refused_connections"]),
    ):
        table.add_row(what, str(found))
    yield table


def _migrate(results: Figures) -> Iterator[Table]:
    versions = results["versions"]
    yield _comparison(f"nothing pending, {MANY} applied", results["nothing_pending"], "knex", versions)
    yield _comparison(f"{MANY} small migrations, a commit each", results["small_migrations"], "psql", versions)
    yield _comparison(f"{THOUSANDS:,} small migrations, a commit each", results["thousands"], "psql", versions)
    table = Table("tool", "exit 0", "a migration ran", title=f"{CROWD} at once, {CROWD_PENDING} pending")
    for name, found in results["at_once"].items():
        exited = ", ".join(map(str, found["exited_0"]))
        table.add_row(name, f"{exited} of {found['of']}", _times(found))
    yield table
    title = f"ledgergate at once, {MANY} pending, 100 connections"
    table = Table("processes", "exit 0", "a migration ran", "wall", "CPU", title=title)
    for found in results["many_at_once"]:
        ended = f"{found['exited_0']} of {found['of']}"
        table.add_row(str(found["of"]), ended, _times(found), f"{found['wall_s']} s", f"{found['cpu_s']} s")
    yield table
    yield _judged(results["figures"])


def _comparison(title: str, tools: Figures, reference: str, versions: Mapping[str, str]) -> Table:
    """Return a table with a row for each tool, the fastest first; "x knex" is the ratio to the median of knex."""
    table = Table("tool", title=title)
    for what in ("wall", "least", "most", f"x {reference}", "CPU", f"x {reference}"):
        table.add_column(what, justify="right", no_wrap=True)
    for name, found in sorted(tools.items(), key=lambda item: float(item[1]["wall_ms"])):
        row = [f"{found[key]:.0f} ms" for key in ("wall_ms", "wall_least_ms", "wall_most_ms", "cpu_ms")]
        ratios = [ratio(found, tools.get(reference), what) for what in ("wall_ms", "cpu_ms")]
        product, _, mode = name.partition(",")
        table.add_row(f"{product} {versions[product]}{mode and ','}{mode}", *row[:3], ratios[0], row[3], ratios[1])
    return table


def ratio(found: Figures, reference: Figures | None, what: str) -> str:
    """Format the ratio of a tool's median to the reference's; nothing where the reference was not measured."""
    return "" if reference is None else f"{float(found[what]) / float(reference[what]):.2f}"


def _times(found: Figures) -> str:
    least, most = found["least_runs"], found["most_runs"]
    return "once" if least == most == 1 else f"{least} to {most} times"
