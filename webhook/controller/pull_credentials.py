"""The logins with which a pod's images may be asked for: its pull secrets', and those mounted for the controller."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from webhook.api.objects import Secret
from webhook.kube.errors import ClusterError, Forbidden, NotFound
from webhook.ledgers.secrets import SecretApi
from webhook.registries.credentials import NO_CREDENTIALS, CredentialsError, Keyring
from webhook.telemetry import log_event

MAX_PULL_SECRETS = 10
"""Pull secrets of one pod that are read; a pod has one or two."""

_KEYS = (".dockerconfigjson", ".dockercfg")
_MAX_CONFIG = 2 * 1024 * 1024  # bytes of config.json that are read


@dataclass(frozen=True, slots=True)
class PullCredentials:
    """Logins for one pod's images.

    Args:
        keyring: the logins.
        problem: which pull secret could not be used, and what to do; empty where each could.
    """

    keyring: Keyring = NO_CREDENTIALS
    problem: str = ""


class PullCredentialsReader:
    """Reads logins.

    The API server's admission plugin ServiceAccount writes the pull secrets of a pod's service account into the pod
    (https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#serviceaccount-admission-controller),
    so service accounts are not read here, and the controller needs no right to them.

    Args:
        api: where Secrets are read.
        mounted: Docker's ``config.json`` for every namespace; None where there is none.
    """

    def __init__(self, api: SecretApi, mounted: Path | None = None) -> None:
        self._api = api
        self._mounted = mounted

    async def read(self, namespace: str, names: Sequence[str]) -> PullCredentials:
        """Return the logins of the pull secrets with these names, and then those for every namespace."""
        keyrings, problems = [], []
        for name in names[:MAX_PULL_SECRETS]:
            try:
                keyrings.append(_parse(await self._api.read_secret(namespace, name)))
            except NotFound:
                problems.append(f"pull secret {name} does not exist")
            except Forbidden:
                problems.append(
                    f"pull secret {name} may not be read: grant get on it to ledgergate's controller, with `kubectl "
                    f"create role ledgergate-images -n {namespace} --verb=get --resource=secrets "
                    f"--resource-name={name}` and a RoleBinding"
                )
            except CredentialsError as error:
                problems.append(f"pull secret {name}: {error}")
            except ClusterError as error:
                log_event("pull_secret.unreadable", level=logging.WARNING, secret=name, error=str(error))
                problems.append(f"pull secret {name} cannot be read now")
        try:
            keyrings.append(self._read_mounted())
        except CredentialsError as error:
            log_event("registry_config.unreadable", level=logging.ERROR, error=str(error))
        return PullCredentials(Keyring.merged(keyrings), "; ".join(problems))

    def _read_mounted(self) -> Keyring:
        if self._mounted is None:
            return NO_CREDENTIALS
        try:
            with self._mounted.open("rb") as opened:
                return Keyring.parse(opened.read(_MAX_CONFIG))
        except OSError as error:
            raise CredentialsError(f"{self._mounted}: expected a file that can be read: {error.strerror}") from error


def _parse(secret: Secret) -> Keyring:
    for key in _KEYS:
        if value := (secret.data or {}).get(key):
            return Keyring.parse(value)
    raise CredentialsError(f"expected the key {_KEYS[0]}, as `kubectl create secret docker-registry` writes it")
