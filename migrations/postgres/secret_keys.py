"""The keys in which operators and people write a database's address into a Secret.

Known are ledgergate's own keys, those of CloudNativePG, Crunchy's and Percona's PGO, Zalando's operator, the Service
Binding specification, AWS Secrets Manager (JSON in one key), Crossplane, Aiven, and the usual environment variables.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from migrations.postgres.connection_url import ConnectionUrl, parse_url
from migrations.postgres.parameters import AddressError

if TYPE_CHECKING:
    from collections.abc import Mapping


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_KEYS: dict[str, tuple[str, ...]] = {
    # CloudNativePG's `fqdn-uri` names the host so that another namespace finds it
    "url": _words(
        "url fqdnuri uri databaseurl databaseuri postgresurl postgresuri postgresqluri postgresqldatabaseuri pguri "
        "connectionstring connectionuri dsn fqdnjdbcuri jdbcurl jdbcuri"
    ),
    "host": _words("host hostname pghost dbhost postgreshost postgresqlhost databasehost endpoint"),
    "port": _words("port pgport dbport postgresport postgresqlport databaseport"),
    "dbname": _words(
        "database dbname pgdatabase postgresdb postgresdatabase postgresqldatabase databasename postgresdbname db"
    ),
    "user": _words(
        "username user pguser dbuser postgresuser postgresqluser postgresqlusername databaseuser dbusername "
        "databaseusername"
    ),
    "password": _words(
        "password pgpassword dbpassword postgrespassword postgresqlpassword databasepassword dbpass postgrespass"
    ),
    "sslmode": _words("sslmode pgsslmode dbsslmode postgressslmode postgresqlsslmode"),
    "sslrootcert": ("sslrootcert",),
    # Each demands a protection, so it must not be ignored: an address with one that cannot be honoured is refused.
    **{keyword: _words(f"{keyword} pg{keyword}") for keyword in ("requireauth", "channelbinding", "gssencmode")},
}
"""Each of libpq's keywords, and `url`, with the keys that may hold it, of which the first that is set counts. Case,
dashes, dots and underscores of a key are ignored."""
_PROTECTIONS = {"requireauth": "require_auth", "channelbinding": "channel_binding", "gssencmode": "gssencmode"}
"""Keys, without their underscores, to libpq's keywords."""
_OWN = {"dbname": "database", "user": "username"}
_FILES = frozenset(
    ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile", "service", "servicefile", "krbsrvname", "gsslib")
)
"""Keywords that name a file (or a Kerberos service) of the connecting machine. A Secret is written by a tenant, and
must not make the controller read files of its own pod."""


def parse_secret(secret: Mapping[str, str]) -> tuple[ConnectionUrl, str]:
    """Return the keywords that a Secret's decoded keys hold, and its root certificates in PEM, empty without any.

    Raises:
        AddressError: Keys are missing or invalid; every problem is listed.
    """
    problems: list[str] = []
    values = _normalize(_expand_json(secret))
    certificates = values.pop("sslrootcert", "")
    protections = {keyword: values.pop(key) for key, keyword in _PROTECTIONS.items() if key in values}
    if certificates and certificates != "system" and "-----BEGIN CERTIFICATE-----" not in certificates:
        problems.append("key sslrootcert must hold the certificates themselves, in PEM, not the path of a file")
    try:
        parsed = _parse_url(values) if values.get("url") else _parse_parts(values)
    except AddressError as error:
        raise AddressError(*problems, *error.problems) from error
    for keyword, value in protections.items():
        parsed.keywords.setdefault(keyword, value)
    if certificates == "system":
        parsed.keywords["sslrootcert"] = certificates
    if problems:
        raise AddressError(*problems)
    return parsed, "" if certificates == "system" else certificates


def _expand_json(secret: Mapping[str, str]) -> Mapping[str, str]:
    """Return the Secret with its only JSON object replaced by its members, as AWS Secrets Manager writes an address."""
    objects = [value for value in secret.values() if value.lstrip().startswith("{")]
    if len(objects) != 1:
        return secret
    try:
        members = json.loads(objects[0])
    except ValueError:
        return secret
    engine = str(members.get("engine") or "postgres")
    if "postgres" not in engine:
        raise AddressError(f"the Secret is of a database of engine {engine[:40]!r}, not of PostgreSQL")
    plain = {key: str(value) for key, value in members.items() if isinstance(value, str | int)}
    return {**plain, **{key: value for key, value in secret.items() if value is not objects[0]}}


def _normalize(secret: Mapping[str, str]) -> dict[str, str]:
    """Return libpq's keywords, and `url`, with their values.

    Blanks around a value, such as a file's last newline, are removed; from a password only newlines at its end.
    """
    names = {re.sub("[-_.]", "", key.lower()): key for key in sorted(secret, reverse=True)}
    values = {}
    for keyword, keys in _KEYS.items():
        for key in keys:
            text = secret[names[key]] if key in names else ""
            text = text.rstrip("\r\n") if keyword == "password" else text.strip()
            if text:
                values[keyword] = text
                break
    host, colon, port = values.get("host", "").rpartition(":")
    if colon and ":" not in host and "," not in host:  # HOST:PORT in one key
        values["host"] = host
        values.setdefault("port", port)
    return values


def _parse_parts(values: dict[str, str]) -> ConnectionUrl:
    missing = [_OWN.get(key, key) for key in ("host", "dbname", "user", "password") if key not in values]
    if missing:
        raise AddressError(
            "the Secret needs the key url, or host, database, username and password; missing: " + ", ".join(missing)
        )
    if values["host"].startswith(("/", "@")):
        raise AddressError("key host must name a host, not a Unix socket of ledgergate's own pod")
    return ConnectionUrl({"port": "5432", **values}, {}, None)


def _parse_url(values: dict[str, str]) -> ConnectionUrl:
    parsed = parse_url(values["url"], "key url")
    keywords = parsed.keywords
    # A JDBC URL has user and password in keys of their own; an sslmode beside a URL must not be left out silently.
    for keyword in ("user", "password", "sslmode"):
        if keyword in values:
            keywords.setdefault(keyword, values[keyword])
    problems = []
    hosts = keywords.get("host", "") or keywords.get("hostaddr", "")
    if not all(host and not host.startswith(("/", "@")) for host in hosts.split(",")):
        problems.append("key url must name a host")
    if not keywords.get("user"):
        problems.append("key url must name a user")
    if not keywords.get("dbname"):
        problems.append("key url must name a database")
    named = {key for key in _FILES & keywords.keys() if (key, keywords[key]) != ("sslrootcert", "system")}
    problems += [f"key url must not use {key}, which names a file" for key in sorted(named)]
    if problems:
        raise AddressError(*problems)
    return parsed
