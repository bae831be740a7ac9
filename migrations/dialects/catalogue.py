"""Every dialect by its name; none is imported before it is asked for, since `ledgergate migrate` starts in a hurry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from migrations.dialects.dialect import DialectError

if TYPE_CHECKING:
    from migrations.dialects.dialect import Dialect

_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "ledgergate": "native",
        "knex": "javascript",
        "node-pg-migrate": "javascript",
        "umzug": "javascript",
        "typeorm": "javascript",
        "drizzle": "javascript",
        "prisma": "javascript",
        "alembic": "python",
        "django": "python",
        "yoyo": "python",
        "flyway": "jvm",
        "liquibase": "jvm",
        "golang-migrate": "golang",
        "goose": "golang",
        "dbmate": "golang",
        "atlas": "golang",
        "pgroll": "golang",
        "rails": "frameworks",
        "ecto": "frameworks",
        "sqlx": "frameworks",
        "auto": "detection",
    }
)
"""In which module of this package each is described, among its `DIALECTS`."""

_ALIASES: Mapping[str, str] = MappingProxyType({"sequelize": "umzug"})
"""Other names that people know a tool by."""


class _Catalogue(Mapping[str, "Dialect"]):
    def __getitem__(self, name: str) -> Dialect:
        known = _ALIASES.get(name, name)
        module = import_module(f"migrations.dialects.{_MODULES[known]}")
        described: Mapping[str, Dialect] = {dialect.name: dialect for dialect in module.DIALECTS}
        return described[known]

    def __iter__(self) -> Iterator[str]:
        yield from _MODULES
        yield from _ALIASES

    def __len__(self) -> int:
        return len(_MODULES) + len(_ALIASES)

    def __contains__(self, name: object) -> bool:
        return name in _MODULES or name in _ALIASES


DIALECTS: Mapping[str, Dialect] = _Catalogue()
"""Every dialect by name and alias, `auto` among them."""


def find_dialect(name: str) -> Dialect:
    """Give the dialect of this name or alias.

    Raises:
        DialectError: There is none.
    """
    try:
        return DIALECTS[name]
    except KeyError:
        raise DialectError(f"expected a ledger dialect ({', '.join(sorted(DIALECTS))}), got {name!r}") from None


def described() -> tuple[Dialect, ...]:
    """Give every dialect that describes a tool: all but `auto`."""
    return tuple(DIALECTS[name] for name in _MODULES if name != "auto")
