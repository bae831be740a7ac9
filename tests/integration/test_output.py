"""A run whose standard output has no reader any more, as in `up | head -1`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.test_up import states

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]


async def test_a_run_goes_on_when_its_output_is_not_read(ledgergate: Ledgergate, connection: Connection) -> None:
    """Every migration is applied, and the exit code is 0; a failure still has its code and its message."""
    for name in ("one", "two", "three"):
        ledgergate.write(name, f"create table {name} ()")
    process = ledgergate.start("up")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert list((await states(connection)).values()) == ["applied"] * 3
    ledgergate.write("four", "select 1/0")
    failed = ledgergate.start("up")
    assert failed.stdout is not None
    assert failed.stderr is not None
    failed.stdout.close()
    assert "division by zero" in failed.stderr.read()
    failed.stderr.close()
    assert failed.wait(timeout=120) == 1
