"""What is known of a ledger, and why it cannot be read now: values that a reader makes and a verdict is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from migrations.core.ledger import Ledger


class Fault(StrEnum):
    """Why a ledger cannot be read now."""

    UNREAD = "Unread"
    """Nobody has tried yet."""
    UNREACHABLE = "Unreachable"
    """The server does not answer in time, or takes no session."""
    AUTHENTICATION = "AuthenticationFailed"
    """The role or its password is refused."""
    DATABASE = "DatabaseMissing"
    """The server has no database of this name."""
    ADDRESS = "AddressUnusable"
    """The address or a certificate of it cannot be used."""
    PERMISSION = "PermissionMissing"
    """The role may not read the table."""
    LEDGER = "LedgerUnreadable"
    """The table is not one of the dialect: columns are missing, or hold what the dialect never writes."""


@dataclass(frozen=True, slots=True)
class ActiveMigration:
    """Somebody migrates now.

    Attributes:
        holder: Who holds the lock: a pod or host for ours, else the session's `application_name` or backend.
        revision: What it runs; None where that is not known.
        since: When it took the lock, UTC, by the server's clock and to the second; None where the lock is a tool's own,
            which does not say.
    """

    holder: str
    revision: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class RowLock:
    """A tool's lock that is a row of a table, as it stands; whether its owner lives is another question.

    Attributes:
        holder: Who took it, in the tool's words; None where it does not say.
        since: When, UTC; None where it does not say.
    """

    holder: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """What is known of a ledger.

    Attributes:
        ledger: As last read; None when it never was.
        observed_at: When that was, UTC.
        fault: Why it cannot be read now; None when it can.
        detail: What is wrong with the table, in our own words and without a host; only where `fault` is LEDGER.
        run: Who migrates now; looked for only while somebody waits for news or the ledger is dirty.
    """

    ledger: Ledger | None = None
    observed_at: datetime | None = None
    fault: Fault | None = None
    detail: str = ""
    run: ActiveMigration | None = None
