from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.postgres.address import Address, AddressError, Server

text = st.text(st.characters(exclude_categories=["C"]), min_size=1)
PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
PLAIN = "postgresql://me:s3cret@db:5433/app"
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
        ("postgres://me@db/app?sslmode=require", "db:5432/app"),
        ("postgresql://me@[::1]:5432/app", "[::1]:5432/app"),
        ("postgresql://me@a:1,b:2/app?target_session_attrs=read-write", "a:1,b:2/app"),
        ("postgresql:///app?host=/run/postgresql&user=me", "/run/postgresql:5432/app"),
        ("postgresql://me@%2Frun%2Fpostgresql/app", "/run/postgresql:5432/app"),
        ("postgresql://me@/app?hostaddr=10.0.0.1", "10.0.0.1:5432/app"),
        (" postgresql://me:s3cret%40%2F@db/app\n", "db:5432/app"),
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
        ("postgresql://db/app?sslmode=perhaps", 1),
        ("'postgresql://me:s3cret@db/app'", 1),
        ("postgresql://me:s3cret%@db/app", 1),
        ("postgresql://me:p@s3cret@db/app", 1),
        ("postgresql://$(DB_USER)@$(DB_HOST)/app", 1),
        ("postgresql://db/app?sslmode", 1),
        ("postgresql://[::1/app", 1),
        ("mysql://a:x,b:y/app?sslmode=maybe", 4),
    ],
)
def test_every_problem_of_a_url_is_reported_without_its_text(url: str, count: int) -> None:
    """A URL may be all password, so none of it is in a message."""
    with pytest.raises(AddressError) as refused:
        Address.from_url(url)
    assert len(refused.value.problems) == count
    assert "s3cret" not in str(refused.value)


def test_what_only_libpq_understands_is_left_out() -> None:
    """The server would refuse it as an unknown parameter; what the server knows is kept."""
    address = Address.from_url("postgresql://me@db/app?connect_timeout=5&keepalives=1&search_path=x&sslmode=require")
    assert address.settings == (("search_path", "x"),)
    assert address.tls.mode == "require"


@given(user=text, password=text, database=text)
def test_any_user_password_and_database_arrive_unchanged(user: str, password: str, database: str) -> None:
    """User, password and database may hold any characters."""
    address = Address.from_secret(
        {"host": "db", "username": f"u{user}u", "password": password, "database": f"d{database}d"}
    )
    assert address.user == f"u{user}u".strip()
    assert address.servers == (Server("db", 5432, "db", password.rstrip("\r\n")),)
    assert address.database == f"d{database}d"
    quoted = (
        f"postgresql://{quote(address.user, safe='')}:{quote(password, safe='')}@db/{quote(address.database, safe='')}"
    )
    assert Address.from_url(quoted) == address


def test_a_secret_of_parts_and_one_of_a_url_are_one_address() -> None:
    """Trailing newlines, which files and `echo` bring along, do not count; an equal address is an equal key."""
    parts = Address.from_secret({**PARTS, "password": "s3cret\n", "host": "db\n"})
    url = Address.from_secret({"url": "postgresql://me:s3cret@db:5433/app\n"})
    assert parts == url
    assert hash(parts) == hash(url)
    assert parts != Address.from_secret({**PARTS, "password": "other"})


def test_certificates_come_as_text() -> None:
    """A path in a Secret would name a file of the controller's pod."""
    address = Address.from_secret({**PARTS, "sslmode": "verify-full", "sslrootcert": PEM})
    assert (address.tls.mode, address.tls.certificates) == ("verify-full", PEM.strip())
    assert "PEM" in problems(**PARTS, sslrootcert="/etc/passwd")[0]


def test_every_problem_of_a_secret_is_reported() -> None:
    """Missing keys are named; a URL must be complete, and must not name a file."""
    assert "host, database, username, password" in problems()[0]
    assert "missing: database" in problems(**{key: value for key, value in PARTS.items() if key != "database"})[0]
    assert len(problems(url="postgresql://?sslkey=/a&passfile=/b")) == 5
    assert "DATABASE" not in problems(url="mysql://x")[0]
    assert len(problems(url="postgresql:///app?host=/run/postgresql&user=me")) == 1
    assert "sslmode" in problems(**PARTS, sslmode="perhaps")[0]
    assert "port" in problems(**PARTS | {"port": "five"})[0]


def test_the_first_way_that_is_set_wins() -> None:
    """The flag, DATABASE_URL, PG*, DB_*; an empty variable is not set."""
    url = {"DATABASE_URL": "postgresql://me@two/app"}
    libpq = {"PGUSER": "me", "PGHOST": "three", "PGPORT": "1", "PGDATABASE": "app"}
    plain = {"DB_HOST": "four", "DB_NAME": "app", "DB_USER": "me", "DB_PASSWORD": "s3cret"}
    everything = {**url, **libpq, **plain}
    assert Address.from_environment(everything, "postgresql://me@one/app").label == "one:1/app", (
        "PGPORT counts, as in libpq"
    )
    assert Address.from_environment(everything).label == "two:1/app"
    assert Address.from_environment({**everything, "DATABASE_URL": ""}).label == "three:1/app"
    four = Address.from_environment({**plain, "PGSSLMODE": "require"})
    assert (four.label, four.tls.mode) == ("four:5432/app", "require")


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
            assert address.label


BASE = "postgresql://me:s3cret@db/app"


@pytest.mark.parametrize(
    ("url", "mode", "settings", "schema"),
    [
        (
            f"{BASE}?schema=shop&connection_limit=5&pool_timeout=2&pgbouncer=true",
            "prefer",
            {"search_path": '"shop"'},
            "shop",
        ),
        (
            f"{BASE}?socket_timeout=3&statement_cache_size=0&schema=we%22ird",
            "prefer",
            {"search_path": '"we""ird"'},
            'we"ird',
        ),
        (f"{BASE}?sslmode=require&sslaccept=accept_invalid_certs", "no-verify", {}, None),
        (f"{BASE}?sslmode=require&sslaccept=strict", "verify-full", {}, None),
        ("postgresql+asyncpg://me:s3cret@db/app?prepared_statement_cache_size=0&ssl=require", "require", {}, None),
        ("postgresql+psycopg://me:s3cret@db/app", "prefer", {}, None),
        ("postgres+psycopg2://me:s3cret@db/app?application_name=x", "prefer", {}, None),
        ("postgis://me:s3cret@db/app?conn_max_age=600", "prefer", {}, None),
        ("pgx5://me:s3cret@db/app?x-migrations-table=m&pool_max_conns=4", "prefer", {}, None),
        (
            "jdbc:postgresql://db/app?user=me&password=s3cret&currentSchema=shop,public&prepareThreshold=0",
            "prefer",
            {"search_path": "shop,public"},
            "shop",
        ),
        ("jdbc:postgresql://db/app?user=me&password=s3cret&ssl=true&sslrootcert=system", "verify-full", {}, None),
        ("jdbc:postgresql://db/app?user=me&password=s3cret&ssl=true&sslmode=require", "require", {}, None),
        (f"{BASE}?ssl=true", "require", {}, None),
        (f"{BASE}?ssl=true&sslmode=no-verify", "no-verify", {}, None),
        (f"{BASE}?sslmode=no-verify", "no-verify", {}, None),
        (f"{BASE}?uselibpqcompat=true&sslmode=require", "require", {}, None),
        (f"{BASE}?ssl=no-verify&query_timeout=5&keepAlive=true", "no-verify", {}, None),
        (
            f"{BASE}?options[search_path]=a&statement_timeout=5s&my.name=x",
            "prefer",
            {"search_path": "a", "statement_timeout": "5s", "my.name": "x"},
            None,
        ),
        (f"{BASE}?prepared_statements=false&pool=5&schema_search_path=a,b", "prefer", {"search_path": "a,b"}, None),
    ],
)
def test_the_urls_of_other_clients_are_read(url: str, mode: str, settings: dict[str, str], schema: str | None) -> None:
    """What means something for the connection is used, what sets up the other client is left out."""
    address = Address.from_url(url)
    assert (address.label, address.user, address.servers[0].password) == ("db:5432/app", "me", "s3cret")
    assert (address.tls.mode, dict(address.settings), address.schema) == (mode, settings, schema)


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        ("shema=x", "shema"),
        ("connection_limt=5", "connection_limt"),
        ("sslidentity=client.p12", "sslidentity"),
        ("channel_binding=require", "channel_binding"),
        ("channelBinding=require", "channel_binding"),
        ("require_auth=scram-sha-256", "require_auth"),
        ("requirepeer=postgres", "requirepeer"),
        ("replication=database", "replication"),
        ("sslaccept=maybe", "sslaccept"),
        ("sslmode=verify-full", "sslrootcert"),
        ("sslmode=require&sslrootcert=system", "sslrootcert"),
        ("target_session_attrs=master", "target_session_attrs"),
        ("targetServerType=leader", "targetServerType"),
        ("sslcert=/client.crt", "sslkey"),
        ("hostaddr=db", "hostaddr"),
        ("port=1,2", "port"),
        ("host=db:5432", "host"),
        ("sslidentity=client.p12", "sslidentity.*PKCS"),
        ("sslinline=true", "sslinline"),
        ("ssl=true&rejectUnauthorized=false", "rejectUnauthorized.*no-verify"),
        ("socketFactory=com.google.cloud.sql.postgres.SocketFactory", "socketFactory"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(parameter: str, name: str) -> None:
    """Whether it is unknown, impossible or incomplete."""
    with pytest.raises(AddressError, match=name) as refused:
        Address.from_url(f"{BASE}?{parameter}")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("host=db user", "KEYWORD=VALUE"),
        ("host=db password='s3cret", "KEYWORD=VALUE"),
        ("host=db password='s3'cret", "KEYWORD=VALUE"),
        ("host=db user=me hsot=x", "hsot"),
        ("Host=db;Port=5432;Username=me;Password=s3cret", "NET"),
        ("Data Source=db;User Id=me;Password=s3cret", "NET"),
        ("db/app?sslmode=require", "must begin with postgresql://"),
    ],
)
def test_keywords_that_cannot_be_read_are_refused(text: str, problem: str) -> None:
    """The form with keywords, and that of another client; nothing of it is shown."""
    with pytest.raises(AddressError, match=problem) as refused:
        Address.from_url(text)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("written", "database"),
    [
        ("app", "app"),
        ("'my app'", "my app"),
        (r"'it\'s'", "it's"),
        (r"a\ b", "a b"),
        (r"'a\\b'", r"a\b"),
        ("a'b", "a'b"),
    ],
)
def test_keywords_are_unquoted_as_in_libpq(written: str, database: str) -> None:
    """Single quotes around a value go, and a backslash makes the next character plain."""
    assert Address.from_url(f"host=db user=me dbname={written}").database == database


@pytest.mark.parametrize("password", ["a[b", "a]b", "a:b", "a,b", "%25", "$HOME", "a&b=c", "p w"])
def test_a_password_needs_no_more_escapes_than_in_libpq(password: str) -> None:
    """Brackets, colons and commas belong to it."""
    assert Address.from_url(f"postgresql://me:{password}@db/app").servers[0].password == password.replace("%25", "%")


def test_each_variable_is_named_by_its_problem() -> None:
    """The one that has to be corrected, with what to do."""
    plain = {"DB_HOST": "db", "DB_NAME": "app", "DB_USER": "me"}
    for environment, words in (
        ({**plain, "DB_PORT": "tcp://10.96.0.10:5432"}, "DB_PORT.*enableServiceLinks"),
        ({**plain, "DB_PORT": "five"}, "DB_PORT"),
        ({**plain, "DB_HOST": "db:5432"}, "DB_HOST"),
        ({**plain, "DB_HOST": "'db'"}, "DB_HOST.*quotes"),
        ({"DATABASE_URL": f'"{BASE}"'}, "DATABASE_URL.*quotes"),
        ({"LEDGERGATE_DATABASE_URL": f"{BASE}?x=1"}, "LEDGERGATE_DATABASE_URL"),
        ({"PGHOST": "db", "PGUSER": "me", "PGSSLMODE": "perhaps"}, "PGSSLMODE"),
    ):
        with pytest.raises(AddressError, match=words):
            Address.from_environment(environment, environment.get("LEDGERGATE_DATABASE_URL"))
    socket = Address.from_environment({**plain, "DB_HOST": "/cloudsql/p:r:i"})
    assert (socket.servers[0].host, socket.label) == ("/cloudsql/p:r:i", "/cloudsql/p:r:i:5432/app")
