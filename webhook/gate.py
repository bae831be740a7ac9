"""Read a LedgerGate object into the values that decisions are made of, or say everything that is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from migrations.dialects import DIALECTS
from webhook.objects import Bypass, LedgerGate
from webhook.selector import Selector, compile_selector


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


@dataclass(frozen=True, slots=True)
class Policy:
    """What a gate wants done, case by case (the table of verdicts in the contract).

    Args:
        bypass_until: the gate is open until then (aware datetime), None where no bypass is set.
    """

    mode: Mode = Mode.ENFORCE
    on_behind: Action = Action.HOLD
    on_ahead: Action = Action.ALLOW
    on_undeclared: Action = Action.WARN
    on_unreachable: Action = Action.LAST_KNOWN
    bypass_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """One LedgerGate, read.

    Args:
        secret: name of the Secret with the database's address, in the gate's own namespace.
        generation: of the spec.
        history: the newest revisions that the ledger was seen to hold, in its order, and when each was first seen.
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
    history: Mapping[str, str] = field(default_factory=dict, compare=False)
    transitions: Mapping[str, tuple[str, str]] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


_ALLOWED: dict[str, tuple[Action, ...]] = {
    "onBehind": (Action.HOLD, Action.DENY, Action.WARN),
    "onAhead": (Action.ALLOW, Action.WARN, Action.DENY),
    "onUndeclared": (Action.WARN, Action.HOLD, Action.DENY, Action.ALLOW),
    "onUnreachable": (Action.LAST_KNOWN, Action.HOLD, Action.DENY, Action.ALLOW),
}


def read_gate(found: LedgerGate) -> Gate:
    """Read a LedgerGate object.

    The CRD's schema refuses most of what can be wrong; what it let through (an older CRD, a newer object) is kept in
    ``problems`` and replaced by the field's default, so that one bad field never opens a gate.
    """
    spec = found.spec
    selector, problems = compile_selector(spec.selector)
    wrong = list(problems)
    if spec.ledger.dialect not in DIALECTS:
        wrong.append(f"spec.ledger.dialect: {spec.ledger.dialect!r} is none of {', '.join(sorted(DIALECTS))}")

    def action(name: str, value: str) -> Action:
        allowed = _ALLOWED[name]
        if value in allowed:
            return Action(value)
        wrong.append(f"spec.{name}: {value!r} is none of {', '.join(allowed)}")
        return allowed[0]

    mode = Mode.ENFORCE
    if spec.mode in set(Mode):
        mode = Mode(spec.mode)
    else:
        wrong.append(f"spec.mode: {spec.mode!r} is none of {', '.join(Mode)}")
    policy = Policy(
        mode=mode,
        on_behind=action("onBehind", spec.on_behind),
        on_ahead=action("onAhead", spec.on_ahead),
        on_undeclared=action("onUndeclared", spec.on_undeclared),
        on_unreachable=action("onUnreachable", spec.on_unreachable),
        bypass_until=_bypass_until(spec.bypass, wrong),
    )
    return Gate(
        namespace=found.metadata.namespace,
        name=found.metadata.name,
        selector=selector,
        secret=spec.database.secret_ref.name,
        dialect=spec.ledger.dialect,
        schema=spec.ledger.schema,
        table=spec.ledger.table,
        expect_env=spec.expect.env if spec.expect else None,
        policy=policy,
        problems=tuple(wrong),
        generation=found.metadata.generation,
        history={entry.revision: entry.observed_at for entry in found.status.history or ()},
        transitions={held.type: (held.status, held.last_transition_time) for held in found.status.conditions or ()},
    )


def _bypass_until(bypass: Bypass | None, problems: list[str]) -> datetime | None:
    if bypass is None:
        return None
    try:
        until = datetime.fromisoformat(bypass.until)
    except ValueError:
        problems.append(f"spec.bypass.until: {bypass.until!r} is no RFC 3339 time such as 2026-01-31T18:00:00Z")
        return None
    return until if until.tzinfo else until.replace(tzinfo=UTC)
