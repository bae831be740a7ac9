"""The same environment leads `psql` and ledgergate to the same database, as the same role, with the same settings."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrations.postgres.address import Address, AddressError
from migrations.postgres.client_files import ClientFiles
from migrations.postgres.connection import connect
from migrations.postgres.errors import DatabaseError, Misconfigured
from testbed.postgres import Postgres, _installation
from testbed.postgres import run as run_coroutine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IPV6 = Path("/proc/net/if_inet6").exists()
_QUERY = (
    "select concat_ws('|', current_database(), current_user, current_setting('port'), "
    "coalesce(host(inet_server_addr()), 'socket'), current_setting('search_path'), current_setting('timezone'), "
    "current_setting('datestyle'), current_setting('statement_timeout'))"
)
_SETUP = """
create role alice login password 'al%ce';
create role bob login password 'b:o\\b';
create database alice owner alice;
create database "one";
create database "two %25 ?&=";
"""


class Servers(NamedTuple):
    """Two servers, of which the second takes no writes, and a directory with what a client has."""

    one: Postgres
    other: Postgres
    home: Path
    sockets: Path

    def fill(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment with the servers' ports, passwords and directories."""
        words = {
            "{one}": str(self.one.port),
            "{other}": str(self.other.port),
            "{pw}": self.one.password,
            "{otherpw}": self.other.password,
            "{sockets}": str(self.sockets),
            "{sockets%}": quote(str(self.sockets), safe=""),
            "{home}": str(self.home),
        }
        filled = {}
        for name, text in environment.items():
            filled[name] = text
            for word, value in words.items():
                filled[name] = filled[name].replace(word, value)
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], **filled}


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Both servers; they have the same databases and roles, so that only the port distinguishes them."""
    sockets = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's path must be short, and the server runs as another user
    sockets.chmod(0o777)
    home = sockets / "home"
    (home / "etc").mkdir(parents=True)
    addresses = "127.0.0.1,::1" if IPV6 else "127.0.0.1"
    with (
        Postgres(listen_addresses=addresses, unix_socket_directories=str(sockets)) as one,
        Postgres(default_transaction_read_only="on") as other,
    ):
        for server in (one, other):
            setup = [part for command in _SETUP.strip().splitlines() for part in ("-c", command)]
            run_psql(
                {"PATH": os.environ["PATH"], "PGOPTIONS": "-c default_transaction_read_only=off"}, server.url(), setup
            )
        found = Servers(one, other, home, sockets)
        for path, text in _FILES.items():
            (home / path).write_text(found.fill({"x": text})["x"])
            (home / path).chmod(0o600)
        (home / "open.pgpass").write_text("*:*:*:alice:al%ce\n")
        yield found
    shutil.rmtree(sockets)


_FILES = {
    ".pg_service.conf": (
        "# services\n[shop]\nhost=127.0.0.1\nport={one}\nuser=alice\npassword=al%ce\ndbname=one\n"
        "[bad]\nhost = 127.0.0.1\n"
        "[socket]\nhost={sockets}\nport={one}\nuser=bob\ndbname=one\noptions=-c search_path=s\n"
    ),
    "etc/pg_service.conf": "[global]\nhost=127.0.0.1\nport={other}\nuser=alice\npassword=al%ce\n",
    "other_services": "[shop]\nhost=127.0.0.1\nport={other}\nuser=bob\npassword=b:o\\b\ndbname=one\ndbname=alice\n",
    ".pgpass": "127.0.0.1:*:nosuch:*:wrong\n#127.0.0.1:*:*:bob:wrong\n*:*:*:bob:b\\:o\\\\b\n",
    "pass": "127.0.0.1:{one}:*:alice:al%ce\n127.0.0.1:{other}:*:alice:al%ce\nlocalhost:*:*:*:wrong\n"
    "{sockets}:{one}:*:alice:al%ce\n::1:*:*:alice:al%ce\n*:*:*:alice:wrong\n",
}


def run_psql(environment: Mapping[str, str], url: str | None, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the newest psql, which reaches servers of every version; installations of older ones have none."""
    program = str(_installation("") / "bin" / "psql")
    return subprocess.run(
        [program, "-XAtw", *([url] if url else []), *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )


async def ask(environment: Mapping[str, str]) -> str:
    """Return what `_QUERY` answers in ledgergate's session."""
    with patch.dict(os.environ, environment, clear=True):
        address = Address.from_environment(environment, None, ClientFiles())
        session = await connect(address, timeout=10, application_name="differential")
        try:
            return str(await session.fetch_value(_QUERY))
        finally:
            await session.close()


REPORTS_READ_ONLY = os.environ.get("LEDGERGATE_POSTGRES") != "13"
"""Whether the server reports default_transaction_read_only, from which asyncpg learns what is read-only."""

PG = {"PGHOST": "127.0.0.1", "PGPORT": "{one}", "PGUSER": "alice", "PGPASSWORD": "al%ce", "PGDATABASE": "one"}
OTHER = {**PG, "PGPORT": "{other}"}
NOWHERE = {"PGHOST": "127.0.0.1", "PGPORT": "1", "PGUSER": "x", "PGPASSWORD": "x"}
SAME = [
    PG,
    {**PG, "PGDATABASE": ""},
    {name: value for name, value in PG.items() if name != "PGDATABASE"},
    {**PG, "PGDATABASE": "two %25 ?&="},
    {**PG, "PGHOST": "::1"},
    {**PG, "PGHOST": "{sockets}"},
    {**PG, "PGHOST": "localhost"},
    {**PG, "PGHOST": "nosuch.invalid", "PGHOSTADDR": "127.0.0.1"},
    {**PG, "PGHOST": "", "PGHOSTADDR": "127.0.0.1"},
    {**PG, "PGHOST": "127.0.0.1,127.0.0.1", "PGPORT": "1,{one}"},
    {**PG, "PGHOST": "127.0.0.1,{sockets}", "PGPORT": "1,{one}"},
    {**PG, "PGHOST": "nosuch.invalid,127.0.0.1"},
    {**PG, "PGHOST": "127.0.0.1,127.0.0.1", "PGPORT": "{other},{one}"},
    {**PG, "PGHOST": "127.0.0.1,127.0.0.1", "PGPORT": "{other},{one}", "PGTARGETSESSIONATTRS": "read-write"},
    {**PG, "PGHOST": "127.0.0.1,127.0.0.1", "PGPORT": "{one},{other}", "PGTARGETSESSIONATTRS": "read-only"},
    {**PG, "PGHOST": "127.0.0.1,127.0.0.1", "PGPORT": "{other},{one}", "PGTARGETSESSIONATTRS": "prefer-standby"},
    {**PG, "PGOPTIONS": "-c search_path=x,y -c statement_timeout=7s", "PGTZ": "Asia/Tokyo", "PGDATESTYLE": "German"},
    {**PG, "PGPASSWORD": "", "PGUSER": "bob"},
    {**PG, "PGPASSWORD": "", "PGPASSFILE": "{home}/pass"},
    {**PG, "PGPASSWORD": "", "PGPASSFILE": "{home}/pass", "PGHOST": "{sockets}"},
    {**PG, "PGPASSWORD": "", "PGPASSFILE": "{home}/pass", "PGHOST": "::1"},
    {**PG, "PGPASSWORD": "", "PGPASSFILE": "{home}/pass", "PGHOST": "", "PGHOSTADDR": "127.0.0.1"},
    {**OTHER, "PGSERVICE": "shop"},
    {**OTHER, "PGSERVICE": "socket", "PGPASSWORD": "b:o\\b"},
    {"PGSERVICE": "socket"},
    {**NOWHERE, "PGSERVICE": "global", "PGSYSCONFDIR": "{home}/etc"},
    {**NOWHERE, "PGSERVICE": "shop", "PGSERVICEFILE": "{home}/other_services"},
    {**NOWHERE, "PGSERVICE": "global", "PGSERVICEFILE": "{home}/other_services", "PGSYSCONFDIR": "{home}/etc"},
    {**OTHER, "DATABASE_URL": "postgresql://?service=shop"},
    {**OTHER, "DATABASE_URL": "postgresql:///alice?service=shop"},
    {"DATABASE_URL": "postgresql://bob@/?service=shop&password=b:o%5Cb"},
    {**OTHER, "PGSERVICE": "shop", "DATABASE_URL": "postgresql://127.0.0.1:{other}/alice"},
    {**OTHER, "DATABASE_URL": "postgresql://127.0.0.1:{one}"},
    {**OTHER, "DATABASE_URL": "postgres://alice:al%25ce@127.0.0.1:{one}/two%20%2525%20%3F%26%3D"},
    {"DATABASE_URL": "postgresql://alice:al%25ce@[::1]:{one}/one"},
    {"DATABASE_URL": "postgresql://alice:al%25ce@{sockets%}:{one}/one"},
    {"DATABASE_URL": "postgresql:///one?host={sockets}&port={one}&user=alice&password=al%25ce"},
    {"DATABASE_URL": "postgresql://alice:al%25ce@127.0.0.1:1,127.0.0.1:{one}/one"},
    {"DATABASE_URL": "postgresql://alice:al%25ce@127.0.0.1:{other},[::1]:{one}/one?target_session_attrs=read-write"},
    {"DATABASE_URL": "postgresql://x:y@127.0.0.1:1/z?user=alice&password=al%25ce&dbname=one&port={one}"},
    {"DATABASE_URL": "postgresql://alice@nosuch.invalid:{one}/one?hostaddr=127.0.0.1&password=al%25ce"},
    {"DATABASE_URL": "postgresql://bob:b:o%5Cb@127.0.0.1:{one}/one?options=-c%20search_path%3Dp&sslmode=disable"},
    {"DATABASE_URL": "postgresql://alice@127.0.0.1:{one}/one?passfile={home}/pass"},
    {"DATABASE_URL": "postgresql://alice:al%25ce@127.0.0.1:{one}/one?sslmode=allow&gssencmode=prefer&keepalives=1"},
    {"DATABASE_URL": "host=127.0.0.1 port={one} user=alice password=al%ce dbname=one"},
    {"DATABASE_URL": "host = 127.0.0.1 port= {one} user =alice password='al%ce' dbname='two %25 ?&='"},
    {"DATABASE_URL": r"host=127.0.0.1 port={one} user=bob password='b:o\\b' dbname=one options='-c search_path=p\'q'"},
    {"DATABASE_URL": "host='' port={one} host={sockets} user=bob password=b:o\\\\b dbname=one keepalives=1"},
    {"DATABASE_URL": "dbname=alice host=127.0.0.1 port=1 user=bob port={one} user=alice password=al%ce dbname=one"},
    {**OTHER, "DATABASE_URL": "service=shop dbname=alice"},
    {**OTHER, "DATABASE_URL": "port={one}"},
]
REFUSED = [
    ({**PG, "PGSERVICE": "nosuch"}, "PGSERVICE"),
    ({**PG, "PGSERVICE": "bad"}, "pg_service.conf:9"),
    ({**PG, "PGSERVICE": "shop", "PGSERVICEFILE": "/nosuch"}, "PGSERVICEFILE"),
    ({**PG, "PGREQUIREPEER": "postgres"}, "PGREQUIREPEER"),
    ({**PG, "PGREQUIREAUTH": "scram-sha-256"}, "PGREQUIREAUTH"),
    ({**PG, "PGCHANNELBINDING": "require"}, "PGCHANNELBINDING"),
    ({**PG, "PGGSSENCMODE": "require"}, "PGGSSENCMODE"),
    ({**PG, "PGSSLMODE": "perhaps"}, "PGSSLMODE"),
    ({**PG, "PGSSLROOTCERT": "/nosuch.crt", "PGSSLMODE": "verify-full"}, "PGSSLROOTCERT"),
    ({**PG, "PGSSLMODE": "verify-full"}, "PGSSLROOTCERT"),
    ({**PG, "PGSSLROOTCERT": "system", "PGSSLMODE": "require"}, "PGSSLROOTCERT"),
    ({**PG, "PGSSLMODE": "require"}, "sslmode=require"),
    ({**PG, "PGTARGETSESSIONATTRS": "any-at-all"}, "PGTARGETSESSIONATTRS"),
    ({**PG, "PGPASSWORD": "", "PGPASSFILE": "{home}/open.pgpass"}, "PGPASSFILE"),
    ({**PG, "PGHOST": "a,b", "PGPORT": "1,2,3"}, "PGPORT"),
    ({**PG, "PGHOST": "a,b", "PGHOSTADDR": "127.0.0.1"}, "PGHOSTADDR"),
    ({**PG, "PGHOSTADDR": "localhost"}, "PGHOSTADDR"),
    ({**PG, "PGHOST": "127.0.0.1:{one}"}, "PGHOST"),
    ({**PG, "PGHOST": '"127.0.0.1"'}, "PGHOST"),
    ({**PG, "PGPORT": "tcp://10.0.0.1:5432"}, "PGPORT"),
    ({"DATABASE_URL": "postgresql://alice:al%25ce@127.0.0.1:{one}/one?nosuch=1"}, "nosuch"),
    ({"DATABASE_URL": "postgresql://alice:al%25ce@127.0.0.1:{one}/one?require_auth=md5"}, "require_auth"),
    ({"DATABASE_URL": "postgresql://alice:al%25ce@127.0.0.1:{one}/one?replication=database"}, "replication"),
    ({"DATABASE_URL": "postgresql://alice:al%ce@127.0.0.1:{one}/one"}, "DATABASE_URL"),
    ({"DATABASE_URL": "postgresql://alice:al%25ce@127.0.0.1:{one}/one?my.setting=1&timezone=Nowhere"}, "Nowhere"),
]


@pytest.mark.parametrize("environment", SAME, ids=str)
async def test_the_same_environment_leads_to_the_same_database(servers: Servers, environment: dict[str, str]) -> None:
    """Database, role, server and settings are those that psql gets."""
    filled = servers.fill(environment)
    url = filled.get("DATABASE_URL")
    if "::1" in str(environment) and not IPV6:
        pytest.skip("no IPv6 here")
    if "read-" in str(environment) and not REPORTS_READ_ONLY:
        pytest.skip("PostgreSQL 13 does not report default_transaction_read_only")
    expected = await asyncio.to_thread(run_psql, filled, url, ["-c", _QUERY])
    assert expected.returncode == 0, expected.stderr
    assert await ask(filled) == expected.stdout.strip()


@pytest.mark.parametrize(("environment", "name"), REFUSED, ids=str)
async def test_what_cannot_be_honoured_is_refused_by_name(
    servers: Servers, environment: dict[str, str], name: str
) -> None:
    """It is neither ignored nor called an outage, and no password is shown."""
    with pytest.raises((AddressError, Misconfigured), match=name) as refused:
        await ask(servers.fill(environment))
    assert "al%" not in str(refused.value)


FAILS = [
    {**PG, "DATABASE_URL": "postgresql://127.0.0.1,127.0.0.1/one"},  # several hosts have the default port, not PGPORT
    {**PG, "PGPASSWORD": "", "PGPASSFILE": "/nosuch"},
    {**PG, "PGPASSWORD": "", "PGPASSFILE": "{home}/pass", "PGHOST": "localhost"},  # whose password is a wrong one
    {**PG, "PGDATABASE": "nosuch"},
    {**OTHER, "PGTARGETSESSIONATTRS": "read-write"},
]


@pytest.mark.parametrize("environment", FAILS, ids=str)
async def test_where_psql_gets_nowhere_neither_does_ledgergate(servers: Servers, environment: dict[str, str]) -> None:
    """Where psql fails, ledgergate fails too, and connects to no other server."""
    if "read-" in str(environment) and not REPORTS_READ_ONLY:
        pytest.skip("PostgreSQL 13 does not report default_transaction_read_only")
    filled = servers.fill(environment)
    done = await asyncio.to_thread(run_psql, filled, filled.get("DATABASE_URL"), ["-c", _QUERY])
    assert done.returncode == 2, done.stdout
    with pytest.raises(DatabaseError):
        await ask(filled)


_LAYER = st.fixed_dictionaries(
    {},
    optional={
        "host": st.sampled_from(["127.0.0.1", "{sockets}", "localhost", "127.0.0.1,localhost", ""]),
        "hostaddr": st.sampled_from(["127.0.0.1", "127.0.0.1,127.0.0.1"]),
        "port": st.sampled_from(["{one}", "{other}", "1,{one}", "{other},{one}"]),
        "dbname": st.sampled_from(["one", "alice", "two %25 ?&=", ""]),
        "user": st.sampled_from(["alice", "bob"]),
        "password": st.sampled_from(["al%ce", "b:o\\b", ""]),
        "passfile": st.sampled_from(["{home}/pass", "{home}/.pgpass", "/nosuch"]),
        "target_session_attrs": st.sampled_from(["any", *(["read-write", "read-only"] if REPORTS_READ_ONLY else [])]),
        "options": st.sampled_from(["-c search_path=x", "-c statement_timeout=5s", ""]),
    },
)


@given(url=_LAYER, service=_LAYER, variables=_LAYER, authority=st.booleans())
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_layers_lead_where_psql_goes(
    servers: Servers, url: dict[str, str], service: dict[str, str], variables: dict[str, str], authority: bool
) -> None:
    """URL over service over variables over defaults, and files; where psql fails, so does ledgergate."""
    names = {"dbname": "PGDATABASE", "target_session_attrs": "PGTARGETSESSIONATTRS"}
    environment = {names.get(key, f"PG{key.upper()}"): value for key, value in variables.items()}
    base = "?"
    query = dict(url)
    if authority and "port" not in query and "," not in query.get("host", ""):
        base = f"{quote(query.pop('user', ''), safe='')}@{quote(query.pop('host', ''), safe='')}?"
    text = "&".join(f"{key}={quote(value, safe='{}')}" for key, value in query.items())
    environment["DATABASE_URL"] = f"postgresql://{base}{text}"
    if service:
        environment |= {"PGSERVICE": "drawn", "PGSERVICEFILE": "{home}/drawn"}
        lines = "\n".join(f"{key}={value}" for key, value in service.items())
        (servers.home / "drawn").write_text(servers.fill({"x": f"[drawn]\n{lines}\n"})["x"])
    filled = servers.fill(environment)
    expected = run_psql(filled, filled["DATABASE_URL"], ["-c", _QUERY])
    results = []

    async def collect() -> None:
        try:
            results.append(await ask(filled))
        except (AddressError, DatabaseError) as error:
            results.append(str(error))

    run_coroutine(collect())
    if expected.returncode == 0:
        assert results == [expected.stdout.strip()]
    else:
        assert "|" not in results[0], f"psql fails: {expected.stderr}"
