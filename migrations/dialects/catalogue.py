"""Every dialect, by its name and its aliases."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from migrations.dialects import frameworks, golang, javascript, jvm, python
from migrations.dialects.dialect import Dialect, DialectError, LedgerUnreadable
from migrations.dialects.native import NATIVE
from migrations.files import external

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONCRETE_DIALECTS: Sequence[Dialect] = (
    NATIVE,
    *javascript.DIALECTS,
    *python.DIALECTS,
    *jvm.DIALECTS,
    *golang.DIALECTS,
    *frameworks.DIALECTS,
)
"""Every dialect that describes a tool: all but `auto`."""


class _Auto(Dialect):
    """Stands for the dialect of the ledger that is found."""

    __slots__ = ()

    def candidates(self) -> Sequence[Dialect]:
        return CONCRETE_DIALECTS


def _parse(_row: Mapping[str, Any]) -> NoReturn:
    raise LedgerUnreadable("the dialect is not known yet")  # `locate` replaces AUTO before a ledger is read


AUTO = _Auto(
    name="auto",
    table="",
    columns=frozenset(),
    parse=_parse,
    directory=external.unlistable(
        "expected --dialect to name the tool whose directory this is, got auto; or name the newest migration with "
        "--expect or --revision"
    ),
    programs=(),
)

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {name: dialect for dialect in (*CONCRETE_DIALECTS, AUTO) for name in (dialect.name, *dialect.aliases)}
)
"""Every dialect by name and alias, `auto` among them."""


def find_dialect(name: str) -> Dialect:
    """Return the dialect of this name or alias.

    Raises:
        DialectError: There is none.
    """
    try:
        return DIALECTS[name]
    except KeyError:
        raise DialectError(f"expected a ledger dialect ({', '.join(sorted(DIALECTS))}), got {name!r}") from None
