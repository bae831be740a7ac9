"""Django, with the apps that the file `installed` lists, or one app `shop`, and MIGRATION_MODULES of `settings.py`."""

import os
import runpy
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import django  # type: ignore[import-not-found]
from django.conf import settings  # type: ignore[import-not-found]
from django.core.management import call_command  # type: ignore[import-not-found]
from drive_serve import serve  # type: ignore[import-not-found]

installed = Path("installed")
elsewhere = runpy.run_path("settings.py") if Path("settings.py").exists() else {}
url = urlsplit(os.environ["DATABASE_URL"])
settings.configure(
    INSTALLED_APPS=installed.read_text().split() if installed.exists() else ["shop"],
    MIGRATION_MODULES=elsewhere.get("MIGRATION_MODULES", {}),
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path.strip("/"),
            "USER": url.username,
            "PASSWORD": url.password,
            "HOST": url.hostname,
            "PORT": url.port,
        }
    },
)
django.setup()


def plan() -> list[tuple[bool, str]]:
    """Return the output of `showmigrations --plan`: for each migration whether it is applied, and its name."""
    text = StringIO()
    call_command("showmigrations", "--plan", stdout=text)
    return [(line.startswith("[X]"), line[3:].strip()) for line in text.getvalue().splitlines()]


def applied() -> list[str]:
    """Return the applied migrations."""
    return [name for done, name in plan() if done]


def to(count: int) -> None:
    """Migrate forwards or backwards until `count` are applied; do nothing for 0."""
    if count:
        call_command("migrate", "shop", plan()[count - 1][1].partition(".")[2], verbosity=0)


serve(
    {
        "to": to,
        "all": lambda: call_command("migrate", verbosity=0),
        "down": lambda: to(len(applied()) - 1),
    },
    applied,
)
