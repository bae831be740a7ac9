"""How each migration tool writes its ledger: one frozen description per tool, looked up by name."""

from migrations.dialects.catalogue import DIALECTS, find
from migrations.dialects.dialect import Dialect, DialectError
from migrations.dialects.native import NATIVE

__all__ = ["DIALECTS", "NATIVE", "Dialect", "DialectError", "find"]
