"""The life of a tool's ledger in a test, with the assertions after each step."""

from collections.abc import Callable, Sequence
from pathlib import Path

from migrations.core.ledger import Ledger, State
from migrations.core.revision import canonical
from migrations.dialects.catalogue import find_dialect
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.postgres.session import Session
from migrations.reader.reader import LedgerReader, LedgerSource, locate_ledger, read_ledger
from testbed.tools.driver import Answer, Tool
from testbed.tools.reading import PATIENCE

MIGRATIONS = (
    ("20250101000001_first", "create table first ()", "drop table first"),
    ("20250101000002_second", "create table second ()", "drop table second"),
    ("20250101000003_third", "create table third ()", "drop table third"),
    ("20250101000004_broken", "select 1/0", "select 1"),
)
"""Name, up and down of each; the last one fails."""

Write = Callable[[Path], Sequence[str]]
"""Writes `MIGRATIONS` in a tool's format and returns the names by which a pod may declare them."""


class Story:
    """The life of one tool's ledger: empty, some applied, all applied, one reverted, one failed.

    Args:
        name: Name of the dialect.
        tool: The tool.
        files: The name by which a pod may declare each of `MIGRATIONS`, in order.
        url: The database.
    """

    def __init__(self, name: str, tool: Tool, files: Sequence[str], url: str) -> None:
        self.dialect = find_dialect(name)
        self._tool = tool
        self._files = [canonical(file) for file in files]
        self._source = LedgerSource(Address.from_url(url), self.dialect)

    async def tell(self, *, reverts: bool = True, dirty: State | None = None, together: bool = False) -> None:
        """Run the tool through all steps and assert after each that ledgergate reads what the tool lists.

        Args:
            reverts: Whether the tool can revert a migration.
            dirty: State of the failed migration in the ledger; None if the tool does not record it.
            together: Whether the tool applies all pending migrations in one transaction.
        """
        session = await connect(self._source.address, timeout=10, application_name="story")
        try:
            reader = LedgerReader(session, self._source)
            assert (
                await reader.read(limit=PATIENCE)
                == await read_ledger(session, self._source, limit=PATIENCE)
                == self.dialect.parse_ledger([])
            )
            assert (
                await session.fetch_value("select count(*) from pg_class where relnamespace = 'public'::regnamespace")
                == 0
            )
            for count in (0, 2, 3):
                await self._agree(session, reader, self._tool("to", count=count), count)
            if reverts:
                await self._agree(session, reader, self._tool("down"), 2)
            answer = self._tool("all")
            assert answer.error is not None
            left = 2 if reverts and together else 3
            await self._agree(session, reader, answer, left, failed=dirty)
        finally:
            await session.close()

    async def _agree(
        self, session: Session, reader: LedgerReader, answer: Answer, count: int, failed: State | None = None
    ) -> None:
        """Assert that the ledger is the tool's answer, read again and anew, by name and by detection."""
        ledger = await reader.read(limit=PATIENCE)
        assert await read_ledger(session, self._source, limit=PATIENCE) == ledger
        assert list(ledger.applied) == [canonical(name) for name in answer.applied], answer
        assert [ledger.contains(file) for file in self._files] == [place < count for place in range(4)]
        assert (ledger.dirty and ledger.dirty.state) == failed
        assert not count or (ledger.head == ledger.applied[-1] and not ledger.is_ahead_of(self._files[count - 1]))
        await self._detected(session, ledger)
        self._complete(ledger, count)

    async def _detected(self, session: Session, ledger: Ledger) -> None:
        auto = LedgerSource(self._source.address, find_dialect("auto"))
        location = await locate_ledger(session, auto, limit=PATIENCE)
        if location.exists:
            assert location.dialect is self.dialect
            assert await read_ledger(session, auto, limit=PATIENCE) == ledger

    def _complete(self, ledger: Ledger, count: int) -> None:
        """Assert that an image has a gap exactly if it expects more migrations than are applied."""
        for known in range(1, 5):
            expected = self.dialect.declare(self._files[:known])
            assert ledger.is_complete_for(expected) is (known <= count), (str(expected), ledger.applied)
