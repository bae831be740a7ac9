"""Secrets: what operators write is read, and what leads somewhere else, or unprotected, is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from migrations.postgres.address import Address, AddressError, Server

if TYPE_CHECKING:
    from pathlib import Path

PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
PLAIN = "postgresql://me:s3cret@db:5433/app"
BASE = "postgresql://me:s3cret@db/app"
PARTS = {"host": "db", "port": "5433", "database": "app", "username": "me", "password": "s3cret"}


def problems(**secret: str) -> tuple[str, ...]:
    with pytest.raises(AddressError) as refused:
        Address.from_secret(secret)
    assert "s3cret" not in str(refused.value)
    return refused.value.problems


@pytest.mark.parametrize(
    "secret",
    [
        {"uri": BASE, "jdbc-uri": "jdbc:postgresql://db:5432/app?password=s3cret&user=me", "pgpass": "x"},
        {"jdbc-uri": "jdbc:postgresql://db:5432/app?password=s3cret&user=me"},
        {"jdbc-url": "jdbc:postgresql://db:5432/app", "username": "me", "password": "s3cret"},
        {"host": "db", "port": "5432", "dbname": "app", "user": "me", "password": "s3cret", "pgbouncer-host": "x"},
        {"host": "db:5432", "database": "app", "username": "me", "password": "s3cret\n"},
        {"x": '{"username":"me","password":"s3cret","engine":"postgres","host":"db","port":5432,"dbname":"app"}'},
        {"PGHOST": "db", "PGPORT": "5432", "PGDATABASE": "app", "PGUSER": "me", "PGPASSWORD": "s3cret"},
        {"DB_HOST": "db", "DB_NAME": "app", "DB_USER": "me", "DB_PASSWORD": "s3cret"},
        {"uri": "postgresql://x@y/z", "fqdn-uri": BASE, "dbname": "app"},
        {"endpoint": "db", "port": "5432", "username": "me", "password": "s3cret", "dbName": "app"},
        {"databaseUrl": BASE},
        {"connectionString": BASE},
        {"PG_HOST": "db", "PG_DATABASE": "app", "PG_USER": "me", "PG_PASSWORD": "s3cret"},
        {
            "POSTGRESQL_HOST": "db",
            "POSTGRESQL_PORT": "5432",
            "POSTGRESQL_DATABASE": "app",
            "POSTGRESQL_USER": "me",
            "POSTGRESQL_PASSWORD": "s3cret",
            "POSTGRESQL_SSLMODE": "prefer",
        },
        {
            "x": '{"username":"me","password":"s3cret","engine":"aurora-postgresql","host":"db","dbname":"app",'
            '"dbClusterIdentifier":"c","masterarn":null}'
        },
        {"POSTGRES_HOST": "db", "POSTGRES_DB": "app", "POSTGRES_USER": "me", "POSTGRES_PASSWORD": "s3cret"},
    ],
)
def test_the_secrets_of_operators_are_read_as_they_are(secret: dict[str, str]) -> None:
    """CloudNativePG, PGO, Service Binding, AWS, Crossplane, Aiven, and those that people make of their environment."""
    assert Address.from_secret(secret) == Address.from_url(BASE)


@pytest.mark.parametrize(
    "key", ["url", "uri", "URI", "fqdn-uri", "DATABASE_URL", "connectionString", "dsn", "jdbc-uri"]
)
def test_a_secret_of_one_address(key: str) -> None:
    """The address alone, under the key that an operator writes beside others."""
    url = "jdbc:postgresql://db:5433/app?user=me&password=s3cret" if "jdbc" in key else PLAIN
    assert Address.from_secret({key: url}) == Address.from_url(PLAIN)


def test_a_secret_that_lacks_something_says_what() -> None:
    """Zalando's operator writes user and password only; another engine's JSON is no address."""
    assert "missing: host, database" in problems(username="me", password="s3cret")[0]
    assert "'mysql'" in problems(x='{"engine": "mysql", "password": "s3cret"}')[0]
    assert "socket" in problems(**{**PARTS, "host": "/run/postgresql"})[0]


def test_a_secret_makes_us_read_nothing_of_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The PG* variables and files of this process add nothing to a Secret's address."""
    (tmp_path / ".pgpass").write_text("*:*:*:*:ours\n")
    for name, value in {
        "HOME": str(tmp_path),
        "PGPASSWORD": "ours",
        "PGHOSTADDR": "10.0.0.9",
        "PGSERVICE": "x",
    }.items():
        monkeypatch.setenv(name, value)
    address = Address.from_secret({"url": "postgresql://me@db/app"})
    assert address.servers == (Server("db", 5432, "db", ""),)
    assert "service" in problems(url="postgresql://me@db/app?service=shop")[0]


@pytest.mark.parametrize(
    "secret",
    [
        {**PARTS, "host": "/run/postgresql"},
        {**PARTS, "host": "db,/run/postgresql"},
        {**PARTS, "host": "db, /run/postgresql"},
        {**PARTS, "host": "[/run/postgresql]"},
        {**PARTS, "host": "@abstract"},
        {**PARTS, "host": "db;evil"},
        {"url": "postgresql://me:x@%2Frun%2Fpostgresql/app"},
        {"url": "postgresql://me:x@db,%2Frun/app"},
        {"url": "postgresql://me:x@db, %2Frun/app"},
        {"url": "postgresql://me:x@db/app?host=/run"},
        {"url": "postgresql://me:x@db/app?host=db,%20/run"},
        {"url": "postgresql://me:x@[%2Frun]/app"},
        {"url": "host='db, /run' user=me password=x dbname=app"},
        {"url": "postgresql://me:x@good@evil/app"},
        {"url": "postgresql://me:x@good/app@evil/app"},
        {**PARTS, "port": "5432/x?host=evil"},
        {**PARTS, "port": "5432@evil:5432"},
        {**PARTS, "port": "5432 host=evil"},
    ],
)
def test_a_secret_reaches_the_host_that_it_shows(secret: dict[str, str]) -> None:
    """No socket of our own pod in any notation, no second host behind a second @, nothing behind a port."""
    assert problems(**secret)


@pytest.mark.parametrize("given", [{"url": "postgresql://me:x@db/app"}, PARTS], ids=["url", "parts"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("require_auth", "scram-sha-256"), ("PGREQUIREAUTH", "scram-sha-256"), ("channel_binding", "require")],
)
def test_a_protection_that_cannot_be_given_is_refused(given: dict[str, str], key: str, value: str) -> None:
    """The message names it: without it, a password could go in clear text to any server that asks."""
    (problem,) = problems(**given, **{key: value})
    assert "of the Secret is set, which ledgergate cannot honour" in problem
    assert key.lower().removeprefix("pg").replace("_", "") in problem.replace("_", "")


def test_an_sslmode_beside_a_url_counts() -> None:
    """Unless the URL has one of its own."""
    beside = {"sslmode": "require"}
    assert Address.from_secret({"url": "postgresql://me:x@db/app", **beside}).tls.mode == "require"
    assert Address.from_secret({"url": "postgresql://me:x@db/app?sslmode=disable", **beside}).tls.mode == "disable"


@pytest.mark.parametrize(
    ("host", "mode", "unverified"),
    [
        ("db", "", True),
        ("10.0.0.1", "prefer", True),
        ("db", "require", False),
        ("db", "disable", False),
        ("localhost", "", False),
        ("127.0.0.1", "", False),
        ("::1", "", False),
        ("127.0.0.1,db", "", True),
    ],
)
def test_which_servers_are_unverified(host: str, mode: str, unverified: bool) -> None:
    """A remote server is unverified if the mode is absent or `prefer`; any other mode counts as a decision."""
    assert Address.from_secret({**PARTS, "host": host, "sslmode": mode}).unverified is unverified
