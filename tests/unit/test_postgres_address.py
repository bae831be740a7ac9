from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.postgres.address import Address, AddressError

text = st.text(st.characters(exclude_categories=["C"]), min_size=1)
PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
PARTS = {"host": "db", "port": "5433", "database": "app", "username": "me", "password": "s3cret"}


def problems(**secret: str) -> tuple[str, ...]:
    with pytest.raises(AddressError) as refused:
        Address.from_secret(secret)
    assert "s3cret" not in str(refused.value)
    return refused.value.problems


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("postgresql://me:s3cret@db:5433/app", "db:5433/app"),
        ("postgres://db/app?sslmode=require", "db/app"),
        ("postgresql://me@[::1]:5432/app", "[::1]:5432/app"),
        ("postgresql://me@a:1,b:2/app?target_session_attrs=read-write", "a:1,b:2/app"),
        ("postgresql:///app?host=/run/postgresql", "/run/postgresql/app"),
        ("postgresql://", "the server of the PG* variables"),
        (" postgresql://me:s3cret%40%2F@db/app\n", "db/app"),
    ],
)
def test_a_url_says_where_and_shows_no_password(url: str, label: str) -> None:
    """Neither the label nor any other form for people has the user or the password."""
    address = Address.from_url(url)
    assert address.label == str(address) == label
    assert "s3cret" not in repr(address)


@pytest.mark.parametrize(
    ("url", "count"),
    [
        ("", 1),
        ("mysql://db/app", 1),
        ("postgresql://me:p@ss/word@db/app", 1),
        ("postgresql://me:p#s3cret@db/app", 1),
        ("postgresql://db:x/app", 1),
        ("postgresql://db:70000/app", 1),
        ("postgresql://db:0/app", 1),
        ("postgresql://db/app?sslmode=no-verify", 1),
        ("postgresql://db/app?sslmode", 1),
        ("postgresql://[::1/app", 1),
        ("mysql://a:x,b:y/app?sslmode=maybe", 4),
    ],
)
def test_every_problem_of_a_url_is_told_and_nothing_of_it_shown(url: str, count: int) -> None:
    """A URL may be all password, so none of it is in a message."""
    with pytest.raises(AddressError) as refused:
        Address.from_url(url)
    assert len(refused.value.problems) == count
    assert "s3cret" not in str(refused.value)


def test_what_only_libpq_understands_is_left_out() -> None:
    """The server would refuse it as an unknown parameter; what the server knows is kept."""
    address = Address.from_url(
        "postgresql://db/app?connect_timeout=5&channel_binding=require&search_path=x&sslmode=require"
    )
    assert urlsplit(address.url).query == "search_path=x&sslmode=require"
    assert address.sslmode == "require"


@given(user=text, password=text, database=text)
def test_any_user_password_and_database_can_be_told(user: str, password: str, database: str) -> None:
    """Whatever characters they have, they arrive as they were."""
    address = Address.from_secret(
        {"host": "db", "username": f"u{user}u", "password": password, "database": f"d{database}d"}
    )
    parsed = urlsplit(address.url)
    assert unquote(parsed.username or "") == f"u{user}u"
    assert unquote(parsed.password or "") == password
    assert unquote(parsed.path[1:]) == f"d{database}d"
    assert parsed.hostname == "db"
    assert (parsed.port, address.url.count("@")) == (5432, 1)


def test_a_secret_of_parts_and_one_of_a_url_are_one_address() -> None:
    """Trailing newlines, which files and `echo` bring along, do not count; an equal address is an equal key."""
    parts = Address.from_secret({**PARTS, "password": "s3cret\n", "host": "db\n"})
    url = Address.from_secret({"url": "postgresql://me:s3cret@db:5433/app\n"})
    assert parts == url
    assert hash(parts) == hash(url)
    assert parts != Address.from_secret({**PARTS, "password": "other"})


def test_certificates_come_as_text() -> None:
    """A path would be one of our own pod's files."""
    address = Address.from_secret({**PARTS, "sslmode": "verify-full", "sslrootcert": PEM})
    assert (address.sslmode, address.root_certificates) == ("verify-full", PEM.strip())
    assert "PEM" in problems(**PARTS, sslrootcert="/etc/passwd")[0]


def test_every_problem_of_a_secret_is_told() -> None:
    """Missing keys are named; a URL must be complete, and must not name a file."""
    assert "host, database, username, password" in problems()[0]
    assert "missing: database" in problems(**{key: value for key, value in PARTS.items() if key != "database"})[0]
    assert len(problems(url="postgresql://?sslkey=/a&passfile=/b")) == 5
    assert len(problems(url="postgresql:///app?host=/run/postgresql&user=me")) == 1
    assert "sslmode" in problems(**PARTS, sslmode="no-verify")[0]
    assert "port" in problems(**PARTS | {"port": "five"})[0]


def test_the_first_way_that_is_set_wins() -> None:
    """The flag, DATABASE_URL, PG*, DB_*; an empty variable is not set."""
    url = {"DATABASE_URL": "postgresql://two/app"}
    libpq = {"PGHOST": "three", "PGPORT": "1", "PGDATABASE": "app"}
    plain = {"DB_HOST": "four", "DB_NAME": "app", "DB_USER": "me", "DB_PASSWORD": "s3cret"}
    everything = {**url, **libpq, **plain}
    assert Address.from_environment(everything, "postgresql://one/app").label == "one/app"
    assert Address.from_environment(everything).label == "two/app"
    assert Address.from_environment({**everything, "DATABASE_URL": ""}).label == "three:1/app"
    assert Address.from_environment({**plain, "PGSSLMODE": "require"}).label == "four:5432/app"
    assert Address.from_environment({"PGSERVICE": "x"}).url == "postgresql://"
    assert Address.from_environment({"PGHOST": "/run/postgresql"}).url == "postgresql://"


@pytest.mark.parametrize(
    "environment", [{}, {"PGSSLMODE": "require"}, {"DB_HOST": "db"}, {"DB_USER": "me", "DB_NAME": "app"}]
)
def test_an_address_must_be_named(environment: dict[str, str]) -> None:
    """The message says every way to do it, or which variable of the chosen way is missing."""
    with pytest.raises(AddressError, match=r"DB_"):
        Address.from_environment(environment)


@given(st.text())
def test_any_text_is_read_or_refused(url: str) -> None:
    """Whatever the text: an address, or the error that says what is wrong with it."""
    for candidate in (url, f"postgresql://{url}", f"postgresql://{quote(url, safe='')}@db/app"):
        try:
            address = Address.from_url(candidate)
        except AddressError as error:
            assert error.problems  # noqa: PT017 - it may as well be read
        else:
            assert Address.from_url(address.url) == address
            assert address.label
