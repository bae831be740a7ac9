"""Metrics and log events of the webhook and the controller.

Metric names and labels are part of ledgergate's public interface. No label names a pod, so that the number of series
is bounded by the number of gates.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TextIO

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from migrations.core.text import clean, shorten

logger = logging.getLogger("ledgergate")

TRACE = 8_000
"""Characters of a traceback that are logged."""

# For answers to reviews and for reads of a ledger: milliseconds, or seconds where something is wrong.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# A hold lasts from the milliseconds of a release to the minutes of a long migration.
_HOLD_SECONDS = (0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def log_event(name: str, *, level: int = logging.INFO, trace: bool = False, **fields: object) -> None:
    """Log an event: a fixed name with structured fields, never a message with values in it.

    Args:
        trace: whether to add the traceback of the exception that is being handled.
    """
    logger.log(level, name, extra={"fields": fields}, exc_info=trace)


@contextmanager
def isolated(name: str, **fields: object) -> Iterator[None]:
    """Log an exception of the block, with its traceback and these fields, instead of raising it.

    For work on one object. All objects share the process: an unforeseen error about one must not end the work on the
    others.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - see above
        log_event(name, level=logging.ERROR, trace=True, **fields, error=f"{type(error).__name__}: {error}")


def configure_logging(log_format: str, stream: TextIO = sys.stderr) -> None:
    """Write ledgergate's events, and the warnings of libraries, to a stream as ``text`` or ``json`` lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_EventFormatter(as_json=log_format == "json"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logger.setLevel(logging.INFO)


class _EventFormatter(logging.Formatter):
    """Formats an event as one line: JSON, or ``time level event key=value`` for people."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        given: dict[str, object] = getattr(record, "fields", {})
        fields = {key: _bounded(value) for key, value in given.items()}
        message = shorten(record.getMessage())
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        trace = _bounded_trace(self.formatException(record.exc_info)) if record.exc_info else None
        if self._as_json:
            line = {"time": time, "level": record.levelname.lower(), "event": clean(message, lines=True), **fields}
            return msgspec.json.encode(line if trace is None else line | {"trace": trace}, enc_hook=str).decode()
        pairs = " ".join(f"{key}={_one_line(value)}" for key, value in fields.items())
        text = f"{time} {record.levelname.lower():7} {_one_line(message)} {pairs}".rstrip()
        return text if trace is None else f"{text}\n{trace}"


def _bounded(value: object) -> object:
    """Return a field's value, whose text is cut: what a server or a tenant has written may be of any length."""
    return clean(shorten(value), lines=True) if isinstance(value, str) else value


def _bounded_trace(trace: str) -> str:
    """Return a traceback without its middle where it is long: the message of its exception may be of any length."""
    return clean(trace if len(trace) <= TRACE else f"{trace[: TRACE // 2]}\n…\n{trace[-TRACE // 2 :]}", lines=True)


def _one_line(value: object) -> str:
    """Format a field's value; one with a line break is quoted, so that it cannot look like another event."""
    text = shorten(str(value))
    return text if text.isprintable() else repr(text)


class Telemetry:
    """The metrics of one process.

    Args:
        registry: where the metrics are registered; by default a registry of their own, so that two instances in one
            process are independent.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"ledgergate_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"ledgergate_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(f"ledgergate_{name}", text, labels, buckets=buckets, registry=registry)

        gate = ("namespace", "gate")
        self.requests = counter("admission_requests", "Reviews answered.", "webhook", "outcome", "reason")
        self.duration = histogram("admission_duration_seconds", "Time to answer a review.", "webhook")
        self.in_flight = gauge("admission_in_flight", "Reviews that are being answered.")
        self.gate_state = gauge("gate_state", "1 for the state that a gate is in.", *gate, "state")
        self.applied = gauge("ledger_applied", "Revisions that the ledger holds.", *gate)
        self.read_duration = histogram("ledger_read_duration_seconds", "Time to read a ledger once.")
        self.age = gauge("ledger_age_seconds", "Time since the ledger was last read.", *gate)
        self.bypass = gauge("bypass_active", "1 while a bypass is in force.", *gate)
        self.held = gauge("held_pods", "Pods that are held.", *gate)
        self.held_too_long = gauge("held_too_long_pods", "Pods that are held for longer than maxHold.", *gate)
        self.contract_waiting = gauge(
            "contract_waiting_pods", "Living pods that a held contract migration waits for.", *gate
        )
        self.unresolved_images = gauge("unresolved_images", "Images that pods wait for and that cannot be read.", *gate)
        self.image_readings = counter("image_readings", "Images asked for, by what came of it.", "result")
        self.hold_duration = histogram(
            "hold_duration_seconds", "Time from when a pod was first seen held to its release.", buckets=_HOLD_SECONDS
        )
        self.releases = counter("releases", "Pods released.", *gate, "how")
        self.wakeups = counter("owner_wakeups", "Owners of missing pods that were annotated to retry at once.")
        self.expiry = gauge("certificate_expiry_timestamp_seconds", "Expiry of a certificate, in Unix time.", "kind")
        self.rotations = counter("certificate_rotations", "Certificates put into service.")
        self.leader = gauge("leader", "1 on the replica that holds the Lease.")
        self._gate_gauges = (
            self.gate_state,
            self.applied,
            self.age,
            self.bypass,
            self.held,
            self.held_too_long,
            self.contract_waiting,
            self.unresolved_images,
        )
        Info("ledgergate_build", "Version of this process.", registry=registry).info({"version": version("ledgergate")})

    def forget_gate(self, namespace: str, gate: str) -> None:
        """Remove the series of a gate that was deleted."""
        for metric in (*self._gate_gauges, self.releases):
            metric.remove_by_labels({"namespace": namespace, "gate": gate})

    def clear_leader_series(self) -> None:
        """Remove what only the leader sets: this replica's values would stay, beside the next leader's.

        Counters of gates too: only the leader hears that a gate was deleted. To Prometheus they begin anew.
        """
        for metric in (*self._gate_gauges, self.releases):
            metric.clear()
        self.expiry.remove_by_labels({"kind": "authority"})

    def exposition(self) -> tuple[bytes, str]:
        """Return the metrics in Prometheus' text format, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
