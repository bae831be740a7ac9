"""What a reader knows of a ledger at one moment, and why it cannot read it: the input of a verdict."""

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
    """No attempt was made to read it yet."""
    PENDING = "Pending"
    """Another process reads it, and has not reported a reading yet."""
    UNREACHABLE = "Unreachable"
    """The server does not answer in time, or accepts no session."""
    AUTHENTICATION = "AuthenticationFailed"
    """The role or its password is refused."""
    DATABASE = "DatabaseMissing"
    """The server has no database of this name."""
    ADDRESS = "AddressUnusable"
    """The address, or a certificate that it names, cannot be used."""
    PERMISSION = "PermissionMissing"
    """The role may not read the table."""
    ROWS_HIDDEN = "RowsHidden"
    """Row-level security hides rows of the table from the role."""
    LEDGER = "LedgerUnreadable"
    """The table is not a ledger of the dialect: columns are missing, or hold what the dialect never writes. Or its
    content is too large, or cannot be decoded."""


@dataclass(frozen=True, slots=True)
class ActiveMigration:
    """A migration run that holds a lock on the ledger now.

    Attributes:
        holder: Who holds the lock: a pod or host for ledgergate's lock, else the session's `application_name` or
            backend.
        revision: The migration that runs; None where it is not known.
        since: When the lock was taken, UTC, by the server's clock and to the second; None for a tool's own lock, which
            does not record it.
    """

    holder: str
    revision: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class RowLock:
    """A tool's lock that is a row of a table. A taken lock does not show that its owner is still alive.

    Attributes:
        holder: Who took it, as the tool writes it; None where the tool does not record it.
        since: When, UTC; None where the tool does not record it.
    """

    holder: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """What is known of a ledger.

    Attributes:
        ledger: As last read; None when it was never read.
        observed_at: When it was last read, UTC.
        fault: Why it cannot be read now; None when it can.
        detail: What is wrong with the table, without a host name; only where `fault` is LEDGER, ROWS_HIDDEN or
            ADDRESS.
        missing_table: Schema and name of the table where it does not exist, so that the ledger is empty.
        run: The run that is migrating now; looked up only while a pod waits for the ledger or the ledger is dirty.
        standby: Whether it was read from a server in recovery, which may be behind its primary.
        unverified: Whether the server is on another machine, and the address leaves `sslmode` at allow or prefer, so
            that any machine could answer.
    """

    ledger: Ledger | None = None
    observed_at: datetime | None = None
    fault: Fault | None = None
    detail: str = ""
    missing_table: str = ""
    run: ActiveMigration | None = None
    standby: bool = False
    unverified: bool = False
