"""A gate's binding to its ledger: what stays known, and when it belongs to another ledger."""

from datetime import UTC, datetime, timedelta
from typing import Any

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.snapshot import Fault
from migrations.dialects.catalogue import DIALECTS
from migrations.postgres.address import Address
from migrations.reader.reader import LedgerSource
from webhook.core.gate import Gate, RecordedRevision
from webhook.core.selector import Selector
from webhook.core.status import Problem
from webhook.ledgers.bindings import LedgerBinding, ledger_fingerprint

NOW = datetime(2026, 1, 26, tzinfo=UTC)
NO_SERVER = "postgresql://u:p@127.0.0.1:1/app"
OTHER_SERVER = "postgresql://u:p@127.0.0.1:2/app"


def remembered(place: str, **known: Any) -> Gate:
    history = {"a": RecordedRevision("t"), "b": RecordedRevision("t", compatible_from="b")}
    return Gate("ns", "app", Selector(), "pg", "ledgergate", history=history, ledger_fingerprint=place, **known)


def applied(binding: LedgerBinding) -> tuple[str, ...] | None:
    """Return what is known to be applied; None where nothing is known."""
    ledger = binding.snapshot(binding.gate).ledger
    return ledger.applied if ledger is not None else None


def test_a_recorded_history_counts_for_its_own_ledger_only() -> None:
    """After a restart in an outage the status says what was applied, contract migrations too; not of another ledger."""
    here, there = Address.from_url(NO_SERVER), Address.from_url(OTHER_SERVER)
    places = [ledger_fingerprint(LedgerSource(address, DIALECTS["ledgergate"])) for address in (here, there)]
    binding = LedgerBinding(remembered(places[0]))
    assert applied(binding) == ("a", "b"), "before its Secret could be read"
    assert binding.rebind(here, None)
    assert not binding.rebind(here, None)
    assert applied(binding) == ("a", "b")
    assert (binding.snapshot(binding.gate).ledger or Ledger()).incompatible_contract_for("a") is not None
    assert binding.rebind(there, None)
    assert applied(binding) is None
    for place in (places[1], ""):
        other = LedgerBinding(remembered(place))
        other.rebind(here, None)
        assert applied(other) is None


def test_a_status_of_another_ledger_is_replaced_at_once() -> None:
    """The status is replaced before the new server answers, which may take long, since admission decides by it."""
    here, there = Address.from_url(NO_SERVER), Address.from_url(OTHER_SERVER)
    place = ledger_fingerprint(LedgerSource(here, DIALECTS["ledgergate"]))
    binding, new = LedgerBinding(remembered(place)), LedgerBinding(remembered(""))
    written = []
    for address in (here, there):
        binding.rebind(address, None)
        new.rebind(address, None)
        written.append((binding.may_write_status, new.may_write_status))
    # Before the first reading nothing is written: the status of an earlier leader says more than is known here, and
    # that of a new gate says nothing that could be wrong.
    assert written == [(False, False), (True, True)]


def test_what_was_read_stays_known_while_it_is_not_current() -> None:
    """A fault, a deleted Secret and a new password keep the ledger; a later reading time alone is no change."""
    address = Address.from_url(NO_SERVER)
    binding = LedgerBinding(remembered(""))
    binding.rebind(address, None)
    ledger = Ledger.of([Record("a", State.APPLIED)])
    assert binding.read(ledger, NOW, standby=False)
    assert not binding.read(Ledger.of([Record("a", State.APPLIED)]), NOW + timedelta(seconds=1), standby=False)
    assert binding.snapshot(binding.gate).ledger is ledger
    assert binding.read(ledger, NOW, standby=True), "from where it was read is news"
    assert binding.failed(Fault.UNREACHABLE, "")
    assert not binding.failed(Fault.UNREACHABLE, "")
    assert applied(binding) == ("a",)
    assert binding.rebind(None, Problem("gone"))
    assert (applied(binding), binding.fault) == (("a",), Fault.UNREAD)
    assert binding.rebind(Address.from_url(NO_SERVER.replace("u:p", "u:q")), None)
    assert (applied(binding), binding.fault) == (("a",), Fault.UNREAD)


def heads(*names: str) -> Ledger:
    return Ledger.of([Record(name, State.APPLIED) for name in names], History.HEADS)


def test_heads_are_remembered_where_the_tool_keeps_no_history() -> None:
    """A head that was replaced stays applied; heads that only the status has seen count too."""
    binding = LedgerBinding(
        Gate(
            "ns", "app", Selector(), "pg", "ledgergate", history={"one": RecordedRevision()}, ledger_fingerprint="here"
        )
    )

    def at(ledger: Ledger) -> tuple[str, ...]:
        binding.read(ledger, NOW, standby=False)
        found = binding.snapshot(binding.gate).ledger
        assert found is not None
        assert binding.snapshot(binding.gate).ledger is found, "a new ledger for each call"
        return found.applied

    assert at(heads("one")) == ("one",)
    assert at(heads("two")) == ("one", "two")
    assert at(heads("four")) == ("one", "two", "four")
    written = {name: RecordedRevision() for name in ("one", "two", "three", "four")}
    binding.gate = Gate("ns", "app", Selector(), "pg", "ledgergate", history=written, ledger_fingerprint="here")
    assert at(heads("four")) == ("one", "two", "three", "four")
    binding.gate = Gate(
        "ns", "app", Selector(), "pg", "ledgergate", history={"x": RecordedRevision(), "four": RecordedRevision()}
    )
    assert at(heads("four"))[:2] == ("one", "two"), "of another ledger"
    assert at(heads("two")) == ("one", "two"), "a downgrade forgets what came after"


def test_a_fingerprint_hides_the_host() -> None:
    """Neither host nor database can be read from it; role and password do not count, table and dialect do."""
    source = LedgerSource(Address.from_url(NO_SERVER), DIALECTS["ledgergate"])
    assert "127" not in ledger_fingerprint(source)
    assert ledger_fingerprint(source) == ledger_fingerprint(
        LedgerSource(Address.from_url(NO_SERVER.replace("u:p", "v:q")), DIALECTS["ledgergate"])
    )
    others = [
        LedgerSource(Address.from_url(OTHER_SERVER), DIALECTS["ledgergate"]),
        LedgerSource(Address.from_url(NO_SERVER), DIALECTS["knex"]),
        LedgerSource(Address.from_url(NO_SERVER), DIALECTS["ledgergate"], "app"),
        LedgerSource(Address.from_url(NO_SERVER), DIALECTS["ledgergate"], None, "t"),
    ]
    assert len({ledger_fingerprint(found) for found in (source, *others)}) == 5
