"""Row-level security that hides rows of a ledger, and the statements that make every row visible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.sql.statements import quoted

if TYPE_CHECKING:
    from migrations.dialects.dialect import LedgerTable


@dataclass(frozen=True, slots=True)
class RowSecurity:
    """Row-level security that applies to what our role reads of a table.

    Source: https://www.postgresql.org/docs/current/ddl-rowsecurity.html

    Attributes:
        role: Our role.
        policies: The policies for its queries; without any, it sees no row.
        is_owner: Whether it owns the table, so that only FORCE ROW LEVEL SECURITY subjects it to the policies.
    """

    role: str
    policies: tuple[str, ...]
    is_owner: bool

    def describe_cause(self, table: LedgerTable) -> str:
        """Return what hides rows, without the role."""
        number = "policy" if len(self.policies) == 1 else "policies"
        policies = f"{number} {', '.join(self.policies)}" if self.policies else "no policy for this role"
        return f"row-level security of {table.schema}.{table.name} ({policies})"

    def describe_remedy(self, table: LedgerTable) -> str:
        """Return two statements, either of which makes every row visible."""
        switch = "no force" if self.is_owner else "disable"
        return (
            f"run `alter role {quoted(self.role)} bypassrls` as a superuser, or "
            f"`alter table {table.relation} {switch} row level security` as the owner of the table"
        )
