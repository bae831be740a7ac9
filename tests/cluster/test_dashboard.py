"""The dashboard and the alerts against a real Prometheus that scrapes the real webhook and the real controller."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from testbed.cluster.application import SECOND, THIRD, Application, in_an_hour, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.controlplane import ControlPlane
from testbed.ports import free_ports
from testbed.tools import debian
from testbed.tools.install import InstallError
from testbed.waiting import until

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "manifests/chart/files/prometheus/dashboard.json").read_text())
ALERTS = ROOT / "manifests/chart/files/prometheus/alerts.yaml"
DOCUMENT = (ROOT / "docs/metrics.md").read_text()
COLUMNS = 24
SUFFIX = re.compile(r"_(bucket|count|sum)\Z")


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus server."""

    url: str

    def ask(self, what: str, **arguments: str) -> Any:
        """Call its API (https://prometheus.io/docs/prometheus/latest/querying/api/)."""
        query = f"{self.url}/api/v1/{what}?{urlencode(arguments)}"
        with urlopen(query, timeout=10) as answer:  # noqa: S310 - the test's own server
            return json.loads(answer.read())["data"]

    def value(self, expression: str) -> list[Any]:
        """Return the series of an expression, now."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def up(self, count: int) -> bool:
        """Return whether it has scraped so many targets."""
        try:
            return len(self.value("up == 1")) == count
        except OSError:
            return False


@pytest.fixture
def prometheus(installation: Installation, plane: ControlPlane, tmp_path: Path) -> Iterator[Prometheus]:
    """Prometheus with ledgergate's rules, scraping webhook, controller and API server; it needs Debian's package."""
    try:
        program, environment = debian.program("prometheus")
    except InstallError as reason:
        pytest.skip(str(reason))
    (port,) = free_ports(1)
    ours = [f"127.0.0.1:{each}" for each in (installation._webhook_metrics, installation._controller_metrics)]
    token = tmp_path / "token"
    plane.kubectl("create", "serviceaccount", "prometheus", "-n", "default")
    plane.kubectl(
        "create", "clusterrolebinding", "p", "--clusterrole=cluster-admin", "--serviceaccount=default:prometheus"
    )
    token.write_text(plane.kubectl("create", "token", "prometheus", "-n", "default"))
    (tmp_path / "rules.yaml").write_text(json.dumps(yaml.safe_load(ALERTS.read_text())["spec"]))
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": "ledgergate", "static_configs": [{"targets": ours}]},
            {
                "job_name": "apiserver",
                "scheme": "https",
                "tls_config": {"ca_file": str(plane.ca)},
                "authorization": {"credentials_file": str(token)},
                "static_configs": [{"targets": [plane.server.removeprefix("https://")]}],
            },
        ],
    }
    (tmp_path / "prometheus.yaml").write_text(json.dumps(configuration))
    flags = (f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path / 'data'}", "--log.level=error")
    command = [program, f"--config.file={tmp_path / 'prometheus.yaml'}", *flags]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment, cwd=tmp_path)
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        until("three scraped targets", lambda: server.up(3))
        yield server
    finally:
        process.kill()
        process.wait()
        plane.kubectl("delete", "clusterrolebinding", "p")
        plane.kubectl("delete", "serviceaccount", "prometheus", "-n", "default")


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels, without the headings."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> dict[str, str]:
    """Return every query of the dashboard, by panel, as Grafana would send it."""
    found = {}
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "1m").replace("$namespace", ".*").replace("$gate", ".*")
            found[f"{panel['title']} {target['refId']}"] = query
    return found


def test_every_panel_explains_itself() -> None:
    """Each panel says what it shows and in what unit, under a title of its own."""
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    assert len({panel["title"] for panel in panels()}) == len(panels())
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_panels_neither_overlap_nor_leave_the_grid() -> None:
    """Each cell of Grafana's 24 columns has one panel at most."""
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS, panel["title"]
        for cell in product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            assert taken.setdefault(cell, panel["title"]) == panel["title"]


def test_the_dashboard_shows_what_the_alerts_judge() -> None:
    """The dashboard shows the metrics of every alert."""
    assert metrics_of(alert_expressions()) - metrics_of(list(queries().values())) == set()


def test_the_choice_of_namespace_and_gate_counts_in_every_panel() -> None:
    """Every series with these labels is filtered by them: a panel of one team's gates shows no other team's."""
    of_gates = set(re.findall(r"^\| `(ledgergate_\w+)\{namespace,gate[\w,]*\}`", DOCUMENT, re.MULTILINE))
    chosen = 0
    for panel in panels():
        for target in panel["targets"]:
            for name, labels in re.findall(r"\b(ledgergate_\w+)(\{.*?\})?", target["expr"]):
                if name in of_gates:
                    chosen += 1
                    assert 'namespace=~"$namespace"' in labels, panel["title"]
                    assert 'gate=~"$gate"' in labels, panel["title"]
    assert chosen >= len(of_gates)


def test_every_query_and_every_alert_has_its_metric(
    prometheus: Prometheus, application: Application, database: str, tmp_path: Path
) -> None:
    """Each panel shows something: while pods are held, when they are released, or under a bypass. So do the alerts."""
    migrations = write_migrations(tmp_path / "migrations")
    migrate(migrations, database, "--to", SECOND)
    application.opt_in(database)
    application.deploy("early", THIRD)
    application.await_held("early")
    held = f'ledgergate_held_pods{{namespace="{application.namespace}"}} == 3'
    until("a scrape of held pods", lambda: prometheus.value(held))
    blank = empty(prometheus)
    migrate(migrations, database)
    application.await_running("early")
    released = f'ledgergate_releases_total{{namespace="{application.namespace}"}} == 3'
    until("a scrape of released pods", lambda: prometheus.value(released))
    application.gate(bypass={"until": in_an_hour(), "reason": "a test"})
    until("the bypass's alert", lambda: firing(prometheus) == {"LedgergateBypassActive"})
    until("something in each panel", lambda: not blank & empty(prometheus))
    asked = metrics_of([*alert_expressions(), *queries().values()])
    unknown = asked - set(prometheus.ask("label/__name__/values"))
    # The API server counts a webhook that it passed over from the first time it did so.
    assert unknown <= {"apiserver_admission_webhook_fail_open_count"}
    groups = prometheus.ask("rules")["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []
    application.gate()
    until("the bypass's end", lambda: firing(prometheus) == set())
    assert_documented(prometheus)


def empty(prometheus: Prometheus) -> set[str]:
    """Return the panels that have nothing to show."""
    return {panel for panel, query in queries().items() if not prometheus.value(query)}


def firing(prometheus: Prometheus) -> set[str]:
    """Return the names of the alerts that fire."""
    alerts = prometheus.ask("alerts")["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def alert_expressions() -> list[str]:
    spec = yaml.safe_load(ALERTS.read_text())["spec"]
    return [rule["expr"] for group in spec["groups"] for rule in group["rules"]]


def metrics_of(expressions: list[str]) -> set[str]:
    return {name for each in expressions for name in re.findall(r"\b(?:ledgergate|apiserver)_\w+", each)}


def assert_documented(prometheus: Prometheus) -> None:
    """Assert that docs/metrics.md has exactly the metrics that are served, with their labels."""
    served: dict[str, set[str]] = {}
    for series in prometheus.ask("series", **{"match[]": '{__name__=~"ledgergate_.+", __name__!~".+_created"}'}):
        labels = set(series) - {"__name__", "instance", "job", "le"}
        served.setdefault(SUFFIX.sub("", series["__name__"]), set()).update(labels)
    rows = re.findall(r"^\| `(ledgergate_\w+)(?:\{(.*?)\})?` \|", DOCUMENT, re.MULTILINE)
    explained = {name: set(filter(None, labels.split(","))) for name, labels in rows}
    assert explained == served
