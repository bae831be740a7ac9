"""A server with TLS: what `sslmode` promises is verified, as psql verifies it."""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from certs.pki import issue_authority, issue_leaf
from migrations.postgres.address import Address
from migrations.postgres.client_files import ClientFiles
from migrations.postgres.connection import connect
from migrations.postgres.errors import Misconfigured
from testbed.postgres import Postgres, _server_user

if TYPE_CHECKING:
    from collections.abc import Iterator


_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Servers of the distribution; those of the wheels are built without TLS."""


class _SecuredPostgres(Postgres):
    def _program(self, name: str) -> str:
        return str(_PROGRAMS[-1] / name)


pytestmark = pytest.mark.skipif(not _PROGRAMS, reason="no PostgreSQL with TLS is installed")


@pytest.fixture(scope="module")
def secured() -> Iterator[tuple[Postgres, Path]]:
    """A server whose certificate names db.test, and the file of its authority."""
    home = Path(tempfile.mkdtemp(dir="/tmp"))
    home.chmod(0o755)
    now = datetime.now(UTC)
    dates = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(hours=1)}
    authority = issue_authority("test", **dates)
    leaf = issue_leaf(authority, ["db.test"], **dates)
    (home / "root.crt").write_bytes(authority.certificate)
    (home / "other.crt").write_bytes(issue_authority("other", **dates).certificate)
    (home / "server.crt").write_bytes(leaf.certificate)
    (home / "server.key").write_bytes(leaf.key)
    (home / "server.key").chmod(0o600)
    owner = _server_user()
    if owner is not None:
        os.chown(home / "server.key", owner.pw_uid, owner.pw_gid)
    with _SecuredPostgres(
        ssl="on", ssl_cert_file=str(home / "server.crt"), ssl_key_file=str(home / "server.key")
    ) as server:
        yield server, home
    shutil.rmtree(home)


async def encrypted(server: Postgres, parameters: str, host: str = "127.0.0.1", **environment: str) -> bool:
    """Return whether the session that the parameters lead to uses TLS."""
    url = f"postgresql://{server.user}:{server.password}@{host}:{server.port}/postgres?{parameters}"
    address = Address.from_url(url, environment, ClientFiles())
    session = await connect(address, timeout=10, application_name="tls")
    try:
        return bool(await session.fetch_value("select ssl from pg_stat_ssl where pid = pg_backend_pid()"))
    finally:
        await session.close()


async def test_the_mode_decides_whether_tls_is_used(secured: tuple[Postgres, Path]) -> None:
    """Modes below verify-ca verify nothing unless a root certificate is named; no-verify never does."""
    server, home = secured
    assert not await encrypted(server, "sslmode=disable")
    assert not await encrypted(server, "sslmode=allow")
    for parameters in ("", "sslmode=require", "ssl=true", f"sslmode=no-verify&sslrootcert={home}/other.crt"):
        assert await encrypted(server, parameters)
    with pytest.raises(Misconfigured, match="certificate verify failed"):
        await encrypted(server, f"sslmode=require&sslrootcert={home}/other.crt")
    with pytest.raises(Misconfigured, match="certificate verify failed"):
        await encrypted(server, "sslmode=verify-full&sslrootcert=system")


async def test_the_host_is_verified_wherever_its_address_leads(secured: tuple[Postgres, Path]) -> None:
    """With hostaddr, the certificate must name the host, as in libpq."""
    server, home = secured
    root = f"sslrootcert={home}/root.crt"
    assert await encrypted(server, f"sslmode=verify-full&hostaddr=127.0.0.1&{root}", "db.test")
    assert await encrypted(server, f"sslmode=verify-ca&{root}")
    with pytest.raises(Misconfigured, match=r"127\.0\.0\.1"):
        await encrypted(server, f"sslmode=verify-full&{root}")
    with pytest.raises(Misconfigured, match=r"other\.test"):
        await encrypted(server, f"sslmode=verify-full&hostaddr=127.0.0.1&{root}", "other.test")
    assert await encrypted(server, "", PGSSLMODE="verify-ca", PGSSLROOTCERT=str(home / "root.crt"))


async def test_a_file_without_certificates_is_named(secured: tuple[Postgres, Path]) -> None:
    """It is a mistake in the address, not an outage."""
    server, home = secured
    (home / "empty.crt").write_text("")
    with pytest.raises(Misconfigured, match=r"empty\.crt"):
        await encrypted(server, f"sslmode=verify-ca&sslrootcert={home}/empty.crt")
