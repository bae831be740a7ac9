"""The Secret that a gate names, read when it is needed, and made into the address of a database."""

import logging
from typing import Protocol

from migrations.postgres.address import Address, AddressError
from webhook.api.objects import Secret
from webhook.core.status import Problem
from webhook.kube.errors import ClusterError, Forbidden, NotFound
from webhook.kube.reflector import Key
from webhook.telemetry import log_event

MAX_VALUE_BYTES = 16 * 1024
MAX_CERTIFICATES_BYTES = 256 * 1024
"""Bytes of a value that is read, and of one that holds certificates: the bundle of a cloud has 160 KiB. A Secret may
have a megabyte; a longer value is for another program, and counts as absent."""
MAX_SERVERS = 32
"""Servers of one address."""


class SecretApi(Protocol):
    """Where Secrets are read."""

    async def read_secret(self, namespace: str, name: str) -> Secret:
        """Read one Secret.

        Raises:
            ClusterError: it cannot be read.
        """


async def read_address(api: SecretApi, key: Key) -> Address | Problem:
    """Return the address that a Secret holds, or why there is none."""
    namespace, name = key
    try:
        secret = await api.read_secret(namespace, name)
    except NotFound:
        return Problem(f"Secret {name} does not exist in namespace {namespace}; create it")
    except Forbidden as error:
        log_event("secret.unreadable", namespace=namespace, secret=name, error=str(error))
        return Problem(
            f"Secret {name} may not be read: grant get on it to ledgergate's controller, with "
            f"`kubectl create role ledgergate-database -n {namespace} --verb=get --resource=secrets "
            f"--resource-name={name}` and a RoleBinding"
        )
    except ClusterError as error:
        log_event("secret.unreadable", namespace=namespace, secret=name, error=str(error))
        return Problem(f"Secret {name} cannot be read now", transient=True)
    return _parse(key, secret)


def _parse(key: Key, secret: Secret) -> Address | Problem:
    namespace, name = key
    data = {field: value for field, value in (secret.data or {}).items() if len(value) <= _limit(value)}
    try:
        address = Address.from_secret({field: value.decode() for field, value in data.items()})
    except UnicodeDecodeError:
        return Problem(f"Secret {name}: a value is not UTF-8 text")
    except AddressError as error:
        return Problem(f"Secret {name}: {error}")
    except Exception:  # noqa: BLE001 - whatever a Secret holds keeps one gate from working, and no other
        log_event("secret.failed", level=logging.ERROR, trace=True, namespace=namespace, secret=name)
        return Problem(f"Secret {name}: the address of the database cannot be read; correct it")
    if len(address.servers) > MAX_SERVERS:
        return Problem(f"Secret {name} names {len(address.servers)} servers, expected at most {MAX_SERVERS}")
    return address


def _limit(value: bytes) -> int:
    return MAX_CERTIFICATES_BYTES if b"-----BEGIN CERTIFICATE-----" in value else MAX_VALUE_BYTES
