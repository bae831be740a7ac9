"""libpq's connection service file.

Source: https://www.postgresql.org/docs/current/libpq-pgservice.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations.postgres.parameters import KEYWORDS, LEFT_OUT, REFUSED, AddressError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from migrations.postgres.client_files import ClientFiles

_SYSTEM_FILES = ("/etc/postgresql-common/pg_service.conf",)
"""Where Debian's libpq looks without PGSYSCONFDIR; other builds have directories of their own."""


def read_service(
    name: str, environment: Mapping[str, str], files: ClientFiles, *, file: str | None, home: str | None
) -> Mapping[str, str]:
    """Return the keywords of a service, from the first file that defines it, as libpq searches them.

    Args:
        name: Name of the service.
        environment: Names the files: `PGSERVICEFILE` and `PGSYSCONFDIR`.
        files: The files of this machine.
        file: Path from the keyword `servicefile`; None without it.
        home: Home directory of the user; None when unknown.

    Raises:
        AddressError: The service is not defined, or a file cannot be read.
    """
    searched = []
    own = file or environment.get("PGSERVICEFILE")
    if own:
        text = files.read(own)
        if text is None:
            raise AddressError(f"service {name!r} (PGSERVICE): the service file {own} (PGSERVICEFILE) cannot be read")
        searched.append((own, text))
    elif home and (text := files.read(f"{home}/.pg_service.conf")) is not None:
        searched.append((f"{home}/.pg_service.conf", text))
    directory = environment.get("PGSYSCONFDIR")
    for path in [f"{directory}/pg_service.conf"] if directory else _SYSTEM_FILES:
        text = files.read(path)
        if text is not None:
            searched.append((path, text))
    for path, text in searched:
        keywords = parse_service(text, name, path)
        if keywords is not None:
            return keywords
    where = ", ".join(path for path, _ in searched) or "no service file was found"
    raise AddressError(
        f"service {name!r} (PGSERVICE) is not defined ({where}): define it, or set PGSERVICEFILE to the file that does"
    )


def parse_service(text: str, name: str, path: str) -> Mapping[str, str] | None:
    """Return the keywords of one service in the text of a file; None where the file does not define it.

    Raises:
        AddressError: A line of the service is one that libpq does not take; the message has the file and the line.
    """
    keywords: dict[str, str] | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if keywords is not None:
                break
            if line.startswith(f"[{name}]"):
                keywords = {}
            continue
        if keywords is None:
            continue
        key, equals, value = line.partition("=")
        if not equals or key not in KEYWORDS | LEFT_OUT | REFUSED.keys() or key in {"service", "servicefile"}:
            shown = (
                key if equals and key.replace("_", "").isalnum() else "KEY=VALUE without blanks around '=' is expected"
            )
            raise AddressError(f"{path}:{number}: service {name!r} has a line that libpq does not take: {shown}")
        keywords.setdefault(key, value)
    return keywords
