"""A gate's binding to its ledger: what it goes on knowing, and of which ledger."""

import asyncio
from typing import Any

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.snapshot import LedgerSnapshot
from migrations.dialects.catalogue import DIALECTS
from migrations.postgres.address import Address
from migrations.reader.reader import LedgerSource
from webhook.core.gate import Gate, RecordedRevision
from webhook.core.selector import Selector
from webhook.core.status import Problem
from webhook.ledgers.bindings import LedgerBinding, ledger_fingerprint
from webhook.ledgers.watchers import LedgerWatchers

NO_SERVER = "postgresql://u:p@127.0.0.1:1/app"
OTHER_SERVER = "postgresql://u:p@127.0.0.1:2/app"


def remembered(place: str, **known: Any) -> Gate:
    history = {"a": RecordedRevision("t"), "b": RecordedRevision("t", compatible_from="b")}
    return Gate("ns", "app", Selector(), "pg", "ledgergate", history=history, ledger_fingerprint=place, **known)


def applied(binding: LedgerBinding) -> tuple[str, ...] | None:
    """Return what is known to be applied; None where nothing is known."""
    ledger = binding.snapshot(binding.gate).ledger
    return ledger.applied if ledger is not None else None


async def test_a_recorded_history_counts_for_its_own_ledger_only() -> None:
    """After a restart in an outage the status says what was applied, contract migrations too; not of another ledger."""
    here, there = (LedgerSource(Address.from_url(url), DIALECTS["ledgergate"]) for url in (NO_SERVER, OTHER_SERVER))
    async with asyncio.TaskGroup() as group:
        watchers = LedgerWatchers(group, lambda _: None, lambda _: None, "test")
        binding = LedgerBinding(remembered(ledger_fingerprint(here)))
        assert applied(binding) == ("a", "b"), "before its Secret could be read"
        binding.rebind(here, None, watchers)
        assert applied(binding) == ("a", "b")
        assert (binding.snapshot(binding.gate).ledger or Ledger()).incompatible_contract_for("a") is not None
        binding.rebind(there, None, watchers)
        assert applied(binding) is None
        binding.rebind(None, Problem("gone"), watchers)
        for place in (ledger_fingerprint(there), ""):
            other = LedgerBinding(remembered(place))
            other.rebind(here, None, watchers)
            assert applied(other) is None
            other.rebind(None, None, watchers)


def heads(*names: str) -> Ledger:
    return Ledger.of([Record(name, State.APPLIED) for name in names], History.HEADS)


async def test_heads_are_remembered_where_the_tool_keeps_no_history() -> None:
    """A head that was left behind stays applied; the status that the controller wrote adds what was missed here."""
    binding = LedgerBinding(
        Gate(
            "ns", "app", Selector(), "pg", "ledgergate", history={"one": RecordedRevision()}, ledger_fingerprint="here"
        )
    )

    def at(ledger: Ledger) -> tuple[str, ...]:
        binding._last_known = LedgerSnapshot(ledger)
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
