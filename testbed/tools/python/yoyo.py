"""Yoyo, with one directory `migrations`."""

import os

from drive_serve import serve  # type: ignore[import-not-found]
from yoyo import get_backend, read_migrations  # type: ignore[import-not-found]

backend = get_backend(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:", 1))
migrations = read_migrations("migrations")


def applied() -> list[str]:
    """Return the migrations that `yoyo list` marks as applied."""
    return [migration.id for migration in backend.to_rollback(migrations)][::-1]


def apply(count: int) -> None:
    """Apply the first `count` of the directory under the tool's lock, as its command line does."""
    with backend.lock():
        backend.apply_migrations(backend.to_apply(migrations[:count]))


def revert() -> None:
    """Revert the newest one."""
    with backend.lock():
        backend.rollback_migrations(backend.to_rollback(migrations)[:1])


serve({"to": apply, "all": lambda: apply(len(migrations)), "down": revert}, applied)
