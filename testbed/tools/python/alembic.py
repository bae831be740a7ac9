"""Alembic, with one script directory `migrations`, and the settings of `alembic.ini` if there is one."""

import os
from io import StringIO

from alembic import command  # type: ignore[import-not-found]
from alembic.config import Config  # type: ignore[import-not-found]
from drive_serve import serve  # type: ignore[import-not-found]

config = Config("alembic.ini", output_buffer=StringIO())  # the file need not exist
config.set_main_option("script_location", "migrations")
config.set_main_option("path_separator", "os")
os.environ["SQLALCHEMY_URL"] = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:", 1)


def current() -> list[str]:
    """Return the output of `alembic current` without the mark `(head)`."""
    config.output_buffer = StringIO()
    config.stdout = config.output_buffer
    command.current(config)
    return sorted(line.split()[0] for line in config.output_buffer.getvalue().splitlines() if line.strip())


serve(
    {
        "upgrade": lambda to: command.upgrade(config, to),
        "downgrade": lambda to: command.downgrade(config, to),
        "all": lambda: command.upgrade(config, "heads"),
    },
    current,
)
