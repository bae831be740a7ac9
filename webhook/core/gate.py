"""Read a LedgerGate object into the values that decisions are made of, or say everything that is wrong with it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from migrations.dialects.catalogue import DIALECTS
from webhook.api.objects import Bypass, LedgerGate, LedgerGateSpec, RunningMigration
from webhook.core.selector import Selector, compile_selector


class Mode(StrEnum):
    """Whether verdicts count, or are only told."""

    ENFORCE = "Enforce"
    AUDIT = "Audit"


class Action(StrEnum):
    """What a gate does about a pod: the values of the ``on…`` fields."""

    ALLOW = "Allow"
    WARN = "Warn"
    HOLD = "Hold"
    DENY = "Deny"
    LAST_KNOWN = "LastKnown"


class Readiness(StrEnum):
    """Whether a pod's readiness follows the ledger too."""

    OFF = "Off"
    LATCH = "Latch"
    """Ready once its revision was seen applied, and for good."""
    LIVE = "Live"
    """Not ready any more where the ledger is seen to have lost the revision."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a gate wants done, case by case (the table of verdicts in the contract).

    Args:
        bypass_until: the gate is open until then (aware datetime), None where no bypass is set.
        bypass_reason: why, in the words of whoever opened it.
        on_behind_workload: what is said of a Deployment, StatefulSet, ... whose pods would be held: WARN or DENY.
        max_hold: how long a pod may be held before that is news.
    """

    mode: Mode = Mode.ENFORCE
    on_behind: Action = Action.HOLD
    on_ahead: Action = Action.ALLOW
    on_undeclared: Action = Action.WARN
    on_unreachable: Action = Action.LAST_KNOWN
    bypass_until: datetime | None = None
    bypass_reason: str = ""
    on_behind_workload: Action = Action.WARN
    readiness: Readiness = Readiness.OFF
    max_hold: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class RecordedRevision:
    """What ``status.history`` keeps of one revision.

    Args:
        observed_at: when the ledger was first seen to hold it (RFC 3339); empty where that is not known.
        compatible_from: of a contract migration, the oldest revision whose images can still run.
    """

    observed_at: str = ""
    compatible_from: str | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """One LedgerGate, read.

    Args:
        secret: name of the Secret with the database's address, in the gate's own namespace.
        generation: of the spec.
        history: the newest revisions that the ledger was seen to hold, in its order.
        place: fingerprint of the ledger that ``history`` is of; empty where that was not written down.
        migration: what was running when the status was written.
        transitions: status and time of the last transition of each condition, by its type.
        problems: what keeps the gate from working, each naming its field; its pods then follow ``onUnreachable``.
    """

    namespace: str
    name: str
    selector: Selector
    secret: str
    dialect: str
    schema: str | None = None
    table: str | None = None
    expect_env: str | None = None
    policy: Policy = field(default_factory=Policy)
    problems: tuple[str, ...] = ()
    generation: int = 0
    # Our own status, read back: what it says is no news, so two gates that differ in it alone are equal.
    history: Mapping[str, RecordedRevision] = field(default_factory=dict, compare=False)
    place: str = field(default="", compare=False)
    migration: RunningMigration | None = field(default=None, compare=False)
    transitions: Mapping[str, tuple[str, str]] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


_ALLOWED: dict[str, tuple[Action, ...]] = {
    "onBehind": (Action.HOLD, Action.DENY, Action.WARN),
    "onBehindWorkload": (Action.WARN, Action.DENY),
    "onAhead": (Action.ALLOW, Action.WARN, Action.DENY),
    "onUndeclared": (Action.WARN, Action.HOLD, Action.DENY, Action.ALLOW),
    "onUnreachable": (Action.LAST_KNOWN, Action.HOLD, Action.DENY, Action.ALLOW),
}


def parse_gate(found: LedgerGate) -> Gate:
    """Read a LedgerGate object.

    The CRD's schema refuses most of what can be wrong; what it let through (an older CRD, a newer object) is kept in
    ``problems`` and replaced by the field's default, so that one bad field never opens a gate.
    """
    spec, status = found.spec, found.status
    selector, problems = compile_selector(spec.selector)
    wrong = list(problems)
    if spec.ledger.dialect not in DIALECTS:
        wrong.append(f"spec.ledger.dialect: {spec.ledger.dialect!r} is none of {', '.join(sorted(DIALECTS))}")
    return Gate(
        namespace=found.metadata.namespace,
        name=found.metadata.name,
        selector=selector,
        secret=spec.database.secret_ref.name,
        dialect=spec.ledger.dialect,
        schema=spec.ledger.schema,
        table=spec.ledger.table,
        expect_env=spec.expect.env if spec.expect else None,
        policy=_policy(spec, wrong),
        problems=tuple(wrong),
        generation=found.metadata.generation,
        history={
            entry.revision: RecordedRevision(entry.observed_at, entry.compatible_from) for entry in status.history or ()
        },
        place=status.place or "",
        migration=status.migration,
        transitions={held.type: (held.status, held.last_transition_time or "") for held in status.conditions or ()},
    )


def _policy(spec: LedgerGateSpec, problems: list[str]) -> Policy:
    def action(name: str, value: str) -> Action:
        return _one_of(f"spec.{name}", value, _ALLOWED[name], problems)

    return Policy(
        mode=_one_of("spec.mode", spec.mode, tuple(Mode), problems),
        on_behind=action("onBehind", spec.on_behind),
        on_ahead=action("onAhead", spec.on_ahead),
        on_undeclared=action("onUndeclared", spec.on_undeclared),
        on_unreachable=action("onUnreachable", spec.on_unreachable),
        bypass_until=_bypass_until(spec.bypass, problems),
        bypass_reason=spec.bypass.reason if spec.bypass else "",
        on_behind_workload=action("onBehindWorkload", spec.on_behind_workload),
        readiness=_one_of(
            "spec.readiness", Readiness.OFF if spec.readiness is False else spec.readiness, tuple(Readiness), problems
        ),
        max_hold=_max_hold(spec.max_hold, problems),
    )


E = TypeVar("E", bound=StrEnum)


def _one_of(field_path: str, value: object, allowed: tuple[E, ...], problems: list[str]) -> E:
    """Read one of the values that a field may have; the first of them, its default, where it is none."""
    for option in allowed:
        if option == value:
            return option
    problems.append(f"{field_path}: {value!r} is none of {', '.join(allowed)}")
    return allowed[0]


_DURATION = re.compile(r"(?:[0-9]{1,5}(?:h|ms|m|s)){1,4}\Z")
_DURATION_PART = re.compile(r"([0-9]+)(h|ms|m|s)")
_UNITS = {"h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}


def _max_hold(text: str, problems: list[str]) -> timedelta:
    """Read a duration as the CRD has it: 90s, 15m, 1h30m."""
    if not _DURATION.match(text):
        problems.append(f"spec.maxHold: {text!r} is no duration such as 90s, 15m or 1h30m")
        return Policy().max_hold
    parts = _DURATION_PART.findall(text)
    return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())


def _bypass_until(bypass: Bypass | None, problems: list[str]) -> datetime | None:
    if bypass is None:
        return None
    try:
        until = datetime.fromisoformat(bypass.until)
    except ValueError:
        problems.append(f"spec.bypass.until: {bypass.until!r} is no RFC 3339 time such as 2026-01-31T18:00:00Z")
        return None
    return until if until.tzinfo else until.replace(tzinfo=UTC)
