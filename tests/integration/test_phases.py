"""The expand and the contract phase: what `--phase` means to `up`, `status`, `wait` and `exec`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_dry_run import psql

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

ONE, TWO, THREE, FOUR = (f"2025010100000{index}_{name}" for index, name in enumerate(("one", "two", "three", "four")))
LEFT = (
    f"left for the contract phase: {THREE} (breaks images older than {TWO}). Once no such image runs any more: "
    "ledgergate migrate up --phase contract"
)


@pytest.fixture
def phases(ledgergate: Ledgergate) -> Ledgergate:
    """A table, a column that takes the place of another, and the contract migration that drops the other."""
    ledgergate.write("one", "create table users (name text);", down="drop table users;")
    ledgergate.write("two", "alter table users add full_name text;", down="alter table users drop full_name;")
    ledgergate.write(
        "three",
        "alter table users drop name;",
        f"contract compatible-from:{TWO}",
        down="alter table users add name text;",
    )
    return ledgergate


async def applied(connection: Connection) -> list[str]:
    """Return the revisions of the ledger, in the order in which they were applied."""
    rows = await connection.fetch("select revision from ledgergate_migrations where state = 'applied' order by id")
    return [row["revision"] for row in rows]


async def test_expand_stops_before_the_contracts_at_the_end(phases: Ledgergate, connection: Connection) -> None:
    """It says what is left and what to do, and has nothing to do again; the contract phase and no flag apply all."""
    done = phases("up", "--phase", "expand")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == [f"done: the ledger is at {TWO}", LEFT]
    assert await applied(connection) == [ONE, TWO]

    again = phases("up", LEDGERGATE_PHASE="expand")
    assert again.stdout.splitlines() == [LEFT, f"nothing to do: the ledger holds every migration up to {TWO}"]

    contract = phases("up", "--phase", "contract")
    assert contract.stdout.splitlines()[-1] == f"done: the ledger is at {THREE}"
    assert await applied(connection) == [ONE, TWO, THREE]

    assert phases("down").returncode == 0  # of the contract phase alone, which is a run of its own
    assert await applied(connection) == [ONE, TWO]
    assert phases("up").returncode == 0
    assert await applied(connection) == [ONE, TWO, THREE]
    after = phases("up", "--phase", "expand")
    assert after.stdout == f"nothing to do: the ledger holds every migration up to {THREE}\n"


async def test_a_contract_before_an_expand_belongs_to_the_expand_phase(
    phases: Ledgergate, connection: Connection
) -> None:
    """A later release has expanded again: the contract that is still pending comes first, and is named."""
    assert phases("up", "--phase", "expand").returncode == 0
    phases.write("four", "alter table users add email text;")
    dry = phases("up", "--phase", "expand", "--dry-run")
    included = f"part of the expand phase, because the image needs them: {THREE} (breaks images older than {TWO})"
    assert (dry.returncode, dry.stderr) == (0, f"{included}\n")
    done = phases("up", "--phase", "expand")
    assert done.returncode == 0
    assert included in done.stdout
    assert "left for" not in done.stdout
    assert await applied(connection) == [ONE, TWO, THREE, FOUR]


async def test_a_contract_that_failed_does_not_stop_the_expand_phase(
    phases: Ledgergate, connection: Connection
) -> None:
    """New pods of the release start; the contract phase goes on where it stopped, and so does a later expand phase."""
    (phases.directory / f"{THREE}.sql").write_text(
        f"-- migrate:up contract compatible-from:{TWO} transaction:false\n"
        "alter table users drop name;\nselect count(*) from removed;\n-- migrate:down none\n"
    )
    assert phases("up").returncode == 1
    again = phases("up", "--phase", "expand")
    assert (again.returncode, again.stderr) == (0, "")
    assert phases("status", "--check").returncode == 0
    await connection.execute("create table removed (id int)")
    phases.write("four", "alter table users add email text;")
    assert phases("up", "--phase", "expand").returncode == 0
    assert sorted(await applied(connection)) == [ONE, TWO, THREE, FOUR]


async def test_a_dry_run_shows_the_phase_and_no_more(phases: Ledgergate, connection: Connection, database: str) -> None:
    """The script is that of the phase; what is left goes to standard error."""
    dry = phases("up", "--phase", "expand", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, f"{LEFT}\n")
    assert psql(database, dry.stdout).returncode == 0
    assert await applied(connection) == [ONE, TWO]
    dry = phases("up", "--phase", "contract", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert psql(database, dry.stdout).returncode == 0
    assert await applied(connection) == [ONE, TWO, THREE]


async def test_a_target_beyond_the_expand_phase_is_refused(phases: Ledgergate, connection: Connection) -> None:
    """Nothing is applied then; a target within the phase counts, and no flag goes as far as the target."""
    done = phases("up", "--phase", "expand", "--to", THREE)
    assert done.returncode == 2
    assert f"got {THREE!r}: it is one of the contract migrations" in done.stderr
    assert f"ends at {TWO}; leave out --to, or use --phase contract" in done.stderr
    assert phases("up", "--phase", "expand", "--to", ONE).returncode == 0
    assert await applied(connection) == [ONE]
    assert phases("up", "--to", THREE).returncode == 0
    assert await applied(connection) == [ONE, TWO, THREE]


def test_what_is_needed_counts_and_the_contract_phase_counts_all(phases: Ledgergate) -> None:
    """`status --check`, `wait` and `exec --expect all` are content with the expand phase; --phase contract is not."""
    commands = (
        ("status", "--check"),
        ("wait", "--timeout", "0"),
        ("exec", "--dialect", "ledgergate", "--expect", "all", "--", "true"),
    )

    def codes(*phase: str) -> list[int]:
        return [phases(name, *phase, *rest).returncode for name, *rest in commands]

    def twin(phase: str) -> list[int]:
        return [phases(*command, LEDGERGATE_PHASE=phase).returncode for command in commands]

    assert codes() == [3, 3, 3]
    assert phases("up", "--phase", "expand").returncode == 0
    assert codes() == codes("--phase", "expand") == twin("expand") == [0, 0, 0]
    assert codes("--phase", "contract") == twin("contract") == [3, 3, 3]
    waited = phases("wait", "--timeout", "0", "--phase", "contract")
    assert f"missing {THREE}; the head is {TWO}" in waited.stderr
    assert phases("wait").stdout == f"the ledger holds {TWO}\n"
    assert phases("up").returncode == 0
    assert codes() == codes("--phase", "contract") == [0, 0, 0]


def test_status_shows_what_is_left(phases: Ledgergate) -> None:
    """As text and as JSON; the expected revision is what `migrate revision` prints."""
    assert phases("up", "--phase", "expand").returncode == 0
    needed = phases("revision").stdout.strip()
    lines = phases("status").stdout.splitlines()
    assert f"expected: {needed}" in lines
    assert LEFT in lines
    document = json.loads(phases("status", "--json").stdout)
    assert (document["expected"], document["at_expected"], document["contracts_left"]) == (needed, True, [THREE])
    everything = json.loads(phases("status", "--json", "--phase", "contract").stdout)
    assert everything["expected"].startswith(f"{THREE}+3.")
    assert (everything["at_expected"], everything["contracts_left"]) == (False, [THREE])
    assert phases("up").returncode == 0
    assert "left for" not in phases("status").stdout
    assert json.loads(phases("status", "--json").stdout)["contracts_left"] == []


def test_without_contracts_the_phases_do_the_same(ledgergate: Ledgergate) -> None:
    """Word for word, whichever phase is asked for."""
    ledgergate.write("one", "select 1;", down="select 1;")
    ledgergate.write("two", "select 2;", down="select 1;")
    commands = (("up", "--dry-run"), ("up",), ("up",), ("status",), ("status", "--json"), ("wait",), ("down",))

    def run(*phase: str) -> list[tuple[int, str, str]]:
        found = []
        for name, *rest in commands:
            done = ledgergate(name, *rest, *(() if name == "down" else phase))
            found.append((done.returncode, _without_times(done.stdout), done.stderr))
        return found

    run()  # which creates the ledger
    assert run() == run("--phase", "expand") == run("--phase", "contract")


def _without_times(text: str) -> str:
    """Return the words of a text without digits: times and durations differ from run to run, and widths with them."""
    return " ".join("".join(character for character in text if not character.isdigit()).split())
