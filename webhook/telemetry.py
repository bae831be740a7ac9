"""Metrics and log events of the webhook and the controller.

Names and labels are the contract's; no label ever names a pod, so their number is bounded by the gates.
"""

import logging
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TextIO

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

logger = logging.getLogger("ledgergate")

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_HOLD_SECONDS = (0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def log_event(name: str, *, level: int = logging.INFO, trace: bool = False, **fields: object) -> None:
    """Log a fixed event name with structured fields; never a message with values pasted in.

    Args:
        trace: add the traceback of the exception that is being handled.
    """
    logger.log(level, name, extra={"fields": fields}, exc_info=trace)


class _Lines(logging.Formatter):
    """One line an event: JSON, or ``time event key=value`` for people."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        trace = self.formatException(record.exc_info) if record.exc_info else None
        if self._as_json:
            line = {"time": at, "level": record.levelname.lower(), "event": record.getMessage(), **fields}
            return msgspec.json.encode(line if trace is None else line | {"trace": trace}, enc_hook=str).decode()
        words = " ".join(f"{key}={_word(value)}" for key, value in fields.items())
        return f"{at} {record.levelname.lower():7} {record.getMessage()} {words}".rstrip() + (
            f"\n{trace}" if trace else ""
        )


def _word(value: object) -> str:
    """Write a field for people; one with a line break is quoted, so that it cannot pass for another event."""
    text = str(value)
    return text if text.isprintable() else repr(text)


def configure_logging(log_format: str, stream: TextIO = sys.stderr) -> None:
    """Send our events, and other libraries' warnings, to a stream as ``text`` or ``json`` lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lines(as_json=log_format == "json"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logger.setLevel(logging.INFO)


class Telemetry:
    """Every metric of one process.

    Args:
        registry: where they are registered; one of its own for each process, so that tests see only theirs.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        gate = ("namespace", "gate")
        self.requests = Counter(
            "ledgergate_admission_requests", "Reviews answered.", ("webhook", "outcome", "reason"), registry=registry
        )
        self.duration = Histogram(
            "ledgergate_admission_duration_seconds",
            "Time to answer a review.",
            ("webhook",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("ledgergate_admission_in_flight", "Reviews being answered.", registry=registry)
        self.gate_state = Gauge(
            "ledgergate_gate_state", "1 for the state a gate is in.", (*gate, "state"), registry=registry
        )
        self.applied = Gauge("ledgergate_ledger_applied", "Revisions the ledger holds.", gate, registry=registry)
        self.read_duration = Histogram(
            "ledgergate_ledger_read_duration_seconds",
            "Time to read a ledger once.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.age = Gauge(
            "ledgergate_ledger_age_seconds",
            "Since the ledger was last read; grows in an outage.",
            gate,
            registry=registry,
        )
        self.bypass = Gauge("ledgergate_bypass_active", "1 while a bypass is in force.", gate, registry=registry)
        self.held = Gauge("ledgergate_held_pods", "Pods held now.", gate, registry=registry)
        self.held_too_long = Gauge(
            "ledgergate_held_too_long_pods", "Pods held for longer than maxHold.", gate, registry=registry
        )
        self.hold_duration = Histogram(
            "ledgergate_hold_duration_seconds",
            "From first seen held to released.",
            buckets=_HOLD_SECONDS,
            registry=registry,
        )
        self.releases = Counter("ledgergate_releases", "Pods released.", (*gate, "how"), registry=registry)
        self.wakeups = Counter(
            "ledgergate_owner_wakeups", "Owners short of pods that were told to try again.", registry=registry
        )
        self.expiry = Gauge(
            "ledgergate_certificate_expiry_timestamp_seconds",
            "When a certificate ends, in Unix time.",
            ("kind",),
            registry=registry,
        )
        self.rotations = Counter(
            "ledgergate_certificate_rotations", "Serving certificates put into service.", registry=registry
        )
        self.leader = Gauge("ledgergate_leader", "1 on the replica that holds the Lease.", registry=registry)
        self._of_gates = (self.gate_state, self.applied, self.age, self.bypass, self.held, self.held_too_long)
        Info("ledgergate_build", "Version of this process.", registry=registry).info({"version": version("ledgergate")})

    def forget_gate(self, namespace: str, gate: str) -> None:
        """Drop what is said of a gate that is gone."""
        for metric in self._of_gates:
            metric.remove_by_labels({"namespace": namespace, "gate": gate})

    def resign(self) -> None:
        """Drop what the leader alone may say: it is the next one's to say, and ours would be wrong from now on."""
        for metric in self._of_gates:
            metric.clear()
        self.expiry.remove_by_labels({"kind": "authority"})

    def exposition(self) -> tuple[bytes, str]:
        """Return the metrics in Prometheus' text format, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
