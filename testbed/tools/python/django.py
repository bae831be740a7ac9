"""Django, with one app `shop`."""

import os
from io import StringIO
from urllib.parse import urlsplit

import django  # type: ignore[import-not-found]
from django.conf import settings  # type: ignore[import-not-found]
from django.core.management import call_command  # type: ignore[import-not-found]
from drive_serve import serve  # type: ignore[import-not-found]

url = urlsplit(os.environ["DATABASE_URL"])
settings.configure(
    INSTALLED_APPS=["shop"],
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
    """Give what `showmigrations --plan` prints: whether it is applied, and which."""
    text = StringIO()
    call_command("showmigrations", "--plan", stdout=text)
    return [(line.startswith("[X]"), line[3:].strip()) for line in text.getvalue().splitlines()]


def applied() -> list[str]:
    """Give those that are applied."""
    return [name for done, name in plan() if done]


def to(count: int) -> None:
    """Migrate forwards or back until so many are applied; with none nothing is done at all."""
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
