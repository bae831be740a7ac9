"""The dashboard and the alerts against a real Prometheus that scrapes the real webhook and the real controller."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from tests.cluster.application import SECOND, THIRD, Application, migrate, write_migrations
from tests.cluster.controlplane import ControlPlane
from tests.cluster.controlplane.processes import free_ports
from tests.cluster.installation import Installation
from tests.waiting import until

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "manifests/dashboards/ledgergate.json").read_text())
ALERTS = ROOT / "manifests/alerts/ledgergate.yaml"
DOCUMENT = (ROOT / "docs/metrics.md").read_text()
SUFFIX = re.compile(r"_(bucket|count|sum)\Z")


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus server."""

    url: str

    def ask(self, what: str, **arguments: str) -> Any:
        """Call its API (https://prometheus.io/docs/prometheus/latest/querying/api/)."""
        query = f"{self.url}/api/v1/{what}?{urlencode(arguments)}"
        with urlopen(query, timeout=10) as answer:  # noqa: S310 - ours
            return json.loads(answer.read())["data"]

    def value(self, expression: str) -> list[Any]:
        """Give the series of an expression, now."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def up(self, count: int) -> bool:
        """Whether it has scraped so many targets."""
        try:
            return len(self.value("up == 1")) == count
        except OSError:
            return False


@pytest.fixture
def prometheus(installation: Installation, plane: ControlPlane, tmp_path: Path) -> Iterator[Prometheus]:
    """Prometheus with our rules, scraping our parts and the API server; it needs Debian's package, as the alerts do."""
    if shutil.which("prometheus") is None:
        pytest.skip("the dashboard is not judged: there is no Prometheus on this machine (apt-get install prometheus)")
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
    command = ["prometheus", f"--config.file={tmp_path / 'prometheus.yaml'}", *flags]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ), cwd=tmp_path)
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        until("three scraped targets", lambda: server.up(3))
        yield server
    finally:
        process.kill()
        process.wait()
        plane.kubectl("delete", "clusterrolebinding", "p")
        plane.kubectl("delete", "serviceaccount", "prometheus", "-n", "default")


def queries() -> dict[str, str]:
    """Every query of the dashboard, by panel, as Grafana would send it."""
    found = {}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "1m").replace("$namespace", ".*").replace("$gate", ".*")
            found[f"{panel['title']} {target['refId']}"] = query
    return found


def test_every_query_and_every_alert_has_its_metric(
    prometheus: Prometheus, application: Application, database: str, tmp_path: Path
) -> None:
    """After pods were held and released, each panel has something to show, and each alert's metrics are there."""
    migrations = write_migrations(tmp_path / "migrations")
    migrate(migrations, database, "--to", SECOND)
    application.opt_in(database)
    application.deploy("early", THIRD)
    application.await_held("early")
    held = f'ledgergate_held_pods{{namespace="{application.namespace}"}} == 3'
    until("a scrape of held pods", lambda: prometheus.value(held))
    migrate(migrations, database)
    application.await_running("early")
    released = f'ledgergate_releases_total{{namespace="{application.namespace}"}} == 3'
    until("a scrape of released pods", lambda: prometheus.value(released))
    until("two scrapes of each histogram", lambda: not empty(prometheus))
    for name in sorted(metrics_of(alert_expressions())):
        assert name in prometheus.ask("label/__name__/values"), name
    groups = prometheus.ask("rules")["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []
    firing = {
        alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"
    }
    assert firing == set(), "all is well"
    documented(prometheus)


def empty(prometheus: Prometheus) -> list[str]:
    """Panels that have nothing to show."""
    return [panel for panel, query in queries().items() if not prometheus.value(query)]


def alert_expressions() -> list[str]:
    spec = yaml.safe_load(ALERTS.read_text())["spec"]
    return [rule["expr"] for group in spec["groups"] for rule in group["rules"]]


def metrics_of(expressions: list[str]) -> set[str]:
    found = {name for each in expressions for name in re.findall(r"\b(?:ledgergate|apiserver)_\w+", each)}
    # The API server counts a webhook that it passed over from the first time it did so.
    return found - {"apiserver_admission_webhook_fail_open_count"}


def documented(prometheus: Prometheus) -> None:
    """Every metric that is served is in docs/metrics.md with the labels it has, and no other is."""
    served: dict[str, set[str]] = {}
    for series in prometheus.ask("series", **{"match[]": '{__name__=~"ledgergate_.+", __name__!~".+_created"}'}):
        labels = set(series) - {"__name__", "instance", "job", "le"}
        served.setdefault(SUFFIX.sub("", series["__name__"]), set()).update(labels)
    rows = re.findall(r"^\| `(ledgergate_\w+)(?:\{(.*?)\})?` \|", DOCUMENT, re.MULTILINE)
    explained = {name: set(filter(None, labels.split(","))) for name, labels in rows}
    assert explained == served
