"""Metrics have the names of the public interface; each log event is one line."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from webhook.telemetry import Telemetry, configure_logging, isolated, log_event, logger

CONTRACT = {
    "ledgergate_admission_requests_total": {"webhook", "outcome", "reason"},
    "ledgergate_admission_duration_seconds": {"webhook"},
    "ledgergate_admission_in_flight": set(),
    "ledgergate_gate_state": {"namespace", "gate", "state"},
    "ledgergate_ledger_applied": {"namespace", "gate"},
    "ledgergate_ledger_read_duration_seconds": set(),
    "ledgergate_ledger_age_seconds": {"namespace", "gate"},
    "ledgergate_held_pods": {"namespace", "gate"},
    "ledgergate_held_too_long_pods": {"namespace", "gate"},
    "ledgergate_contract_waiting_pods": {"namespace", "gate"},
    "ledgergate_unresolved_images": {"namespace", "gate"},
    "ledgergate_image_readings_total": {"result"},
    "ledgergate_hold_duration_seconds": set(),
    "ledgergate_releases_total": {"namespace", "gate", "how"},
    "ledgergate_owner_wakeups_total": set(),
    "ledgergate_bypass_active": {"namespace", "gate"},
    "ledgergate_certificate_expiry_timestamp_seconds": {"kind"},
    "ledgergate_certificate_rotations_total": set(),
    "ledgergate_leader": set(),
    "ledgergate_build_info": {"version"},
}


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A stream for the configured logging; the loggers are restored afterwards."""
    root = logging.getLogger()
    handlers, level, own = root.handlers[:], root.level, logger.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    logger.setLevel(own)


def filled() -> Telemetry:
    """Every metric with one value."""
    telemetry = Telemetry()
    telemetry.requests.labels("hold.ledgergate.dev", "held", "Behind").inc()
    telemetry.duration.labels("hold.ledgergate.dev").observe(0.002)
    for metric in (telemetry.applied, telemetry.age, telemetry.bypass, telemetry.held, telemetry.held_too_long):
        metric.labels("ns", "app").set(3)
    for metric in (telemetry.contract_waiting, telemetry.unresolved_images):
        metric.labels("ns", "app").set(3)
    telemetry.image_readings.labels("Read").inc()
    telemetry.gate_state.labels("ns", "app", "Live").set(1)
    telemetry.releases.labels("ns", "app", "gate").inc()
    telemetry.expiry.labels("serving").set(1)
    return telemetry


def samples(telemetry: Telemetry) -> dict[str, set[str]]:
    """The labels of each sample's name."""
    text, content_type = telemetry.exposition()
    assert content_type.startswith("text/plain")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            name = re.sub(r"_(bucket|sum|count)$", "", sample.name)
            found.setdefault(name, set()).update(set(sample.labels) - {"le"})
    return found


def test_metrics_have_the_names_and_labels_of_the_contract() -> None:
    """Dashboards and alerts rely on them."""
    found = samples(filled())
    assert {name: found.get(name) for name in CONTRACT} == CONTRACT
    families = {family.name for family in Telemetry().registry.collect()}
    assert families == {re.sub("_(total|info)$", "", name) for name in CONTRACT}, "each is filled above"


def test_no_metric_names_a_pod() -> None:
    """The number of series is bounded by the gates."""
    allowed = {"webhook", "outcome", "reason", "namespace", "gate", "state", "how", "kind", "version", "result"}
    assert set().union(*samples(filled()).values()) <= allowed


def test_a_deleted_gate_is_forgotten() -> None:
    """Its gauges are removed, those of other gates stay; to forget a gate twice, or an unknown one, is no error."""
    telemetry = filled()
    telemetry.held.labels("ns", "other").set(1)
    for _ in range(2):
        telemetry.forget_gate("ns", "app")
    telemetry.forget_gate("ns", "never")
    text = telemetry.exposition()[0].decode()
    gauges = [
        line for line in text.splitlines() if 'gate="' in line and "_total{" not in line and "created{" not in line
    ]
    assert gauges == ['ledgergate_held_pods{gate="other",namespace="ns"} 1.0']


def test_a_former_leader_has_no_gauges_of_gates() -> None:
    """What only the leader sets is removed, for every gate; the process' own metrics stay."""
    telemetry = filled()
    telemetry.held.labels("ns", "other").set(1)
    telemetry.expiry.labels("authority").set(1)
    for _ in range(2):
        telemetry.clear_leader_series()
    series = [
        line for line in telemetry.exposition()[0].decode().splitlines() if "{" in line and "_created{" not in line
    ]
    assert not [line for line in series if 'gate="' in line]
    assert [line for line in series if "expiry" in line] == [
        'ledgergate_certificate_expiry_timestamp_seconds{kind="serving"} 1.0'
    ]
    assert [line for line in series if line.startswith("ledgergate_admission_requests_total{")]


def test_the_series_of_a_gate_end_with_it() -> None:
    """All of them, and none of another gate of the same name or namespace."""
    telemetry = filled()
    for namespace, gate in (("ns", "other"), ("other", "app")):
        telemetry.releases.labels(namespace, gate, "gate").inc()
        telemetry.gate_state.labels(namespace, gate, "Live").set(1)
    before = telemetry.exposition()[0].decode()
    assert 'gate="app",how="gate",namespace="ns"' in before
    telemetry.forget_gate("ns", "app")
    telemetry.forget_gate("ns", "app")
    after = telemetry.exposition()[0].decode().splitlines()
    assert not [line for line in after if 'gate="app"' in line and 'namespace="ns"' in line]
    assert len([line for line in after if 'gate="other"' in line or 'namespace="other"' in line]) >= 4


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_line_is_short_and_clean(log_format: str, stream: io.StringIO) -> None:
    """Text of servers and tenants is cut and free of escape sequences: it harms neither a terminal nor a disk."""
    configure_logging(log_format, stream)
    log_event("ledger.unreadable", error="\x1b[31m\x9b2J\u202e" + "x" * 1_000_000)
    logging.getLogger("library").warning("y" * 1_000_000)

    def fail() -> None:
        raise ValueError("\x1b]0;title\x07" + "z" * 1_000_000)

    with isolated("object.failed"):
        fail()
    text = stream.getvalue()
    assert not set(text) & {"\x1b", "\x9b", "\x07", "\u202e"}
    lines = text.splitlines()
    assert len(text) < 15_000
    assert all(len(line) < 1_300 for line in lines if "ledger.unreadable" in line or "yyy" in line)
    assert "ValueError" in text


def test_two_instances_are_independent() -> None:
    """Each has its own values, also within one process."""
    one, other = Telemetry(), Telemetry()
    one.leader.set(1)
    assert "ledgergate_leader 1.0" in one.exposition()[0].decode()
    assert "ledgergate_leader 0.0" in other.exposition()[0].decode()


def test_json_events_are_one_object_a_line(stream: io.StringIO) -> None:
    """Whatever a field contains, a line is one event."""
    configure_logging("json", stream)
    log_event("pod.held", pod="a\nb", reason="x", many=(1, 2), odd=object)
    log_event("pod.released", level=logging.WARNING)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["level"], first["pod"], first["many"]) == ("pod.held", "info", "a\nb", [1, 2])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert second["level"] == "warning"


def test_text_events_are_one_line_each(stream: io.StringIO) -> None:
    """A line break in a field is quoted, so that it cannot look like another event."""
    configure_logging("text", stream)
    log_event("pod.held", pod="web-", message="a\nb")
    (line,) = stream.getvalue().splitlines()
    assert " pod.held pod=web- message=" in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_exception_is_logged_with_its_traceback(log_format: str, stream: io.StringIO) -> None:
    """An internal error can be traced to its place in the code."""
    configure_logging(log_format, stream)
    try:
        int("ours")
    except ValueError:
        log_event("admission.failed", level=logging.ERROR, trace=True)
    assert "ValueError: invalid literal" in stream.getvalue()
    assert "test_telemetry" in stream.getvalue()


def test_of_libraries_only_warnings_are_logged(stream: io.StringIO) -> None:
    """A warning has the same form as our events; a message of level INFO is dropped."""
    configure_logging("json", stream)
    logging.getLogger("aiohttp.server").info("chatter")
    logging.getLogger("aiohttp.server").warning("trouble with %s", "x")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "trouble with x"
