"""What happens to every tool's ledger in a test, and what must hold after each step."""

from collections.abc import Callable, Sequence
from pathlib import Path

from migrations.core.ledger import Ledger, State
from migrations.core.revision import canonical
from migrations.dialects.catalogue import find_dialect
from migrations.postgres.address import Address
from migrations.postgres.session import Session, connect
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
"""Writes `MIGRATIONS` into a directory as a tool wants them, and gives the names under which a pod may declare them."""


class Story:
    """One tool's life with its ledger: nothing, some, all that can be, one taken back, one that fails.

    Args:
        name: Of the dialect.
        tool: The tool itself.
        files: How a pod may declare each of `MIGRATIONS`, in order.
        url: The database.
    """

    def __init__(self, name: str, tool: Tool, files: Sequence[str], url: str) -> None:
        self.dialect = find_dialect(name)
        self._tool = tool
        self._files = [canonical(file) for file in files]
        self._source = LedgerSource(Address.from_url(url), self.dialect)

    async def tell(self, *, reverts: bool = True, dirty: State | None = None, together: bool = False) -> None:
        """Tell it.

        Args:
            reverts: Whether the tool can take a migration back.
            dirty: How the ledger shows the migration that failed; None where the tool does not record it.
            together: Whether the tool applies all that is pending in one transaction, or not at all.
        """
        session = await connect(self._source.address, timeout=10, application_name="story")
        try:
            reader = LedgerReader(session, self._source)
            assert (
                await reader.read(limit=PATIENCE)
                == await read_ledger(session, self._source, limit=PATIENCE)
                == self.dialect.ledger([])
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
        """Hold what the tool says against what we read, again and afresh, by name and by detection."""
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
        """An image of each age finds no gap below what is applied, and one above it."""
        for known in range(1, 5):
            expected = self.dialect.declare(self._files[:known])
            assert ledger.gap(expected) is (known > count), (str(expected), ledger.applied)
