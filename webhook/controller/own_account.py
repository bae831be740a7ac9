"""Check that the installation's manifests name the account under which the controller runs.

The manifests name that account in conditions on the user. With kustomize's `namespace`, and without the transformer,
they name an account of another namespace: the API server then asks the webhook before each release, does not confine
this account, and trusts an account that every user who may create that other namespace can use.
"""

import asyncio
import logging
from collections.abc import Iterator
from typing import Protocol

import msgspec

from webhook.api.account import REMEDY, controller_account, find_other_accounts
from webhook.api.objects import Struct
from webhook.kube.errors import ClusterError
from webhook.settings import CONFIGURATION
from webhook.telemetry import log_event

CHECK_SECONDS = 60.0
RETRY_SECONDS = 5.0
"""Until the next look where the configuration is wrong or cannot be read: an installation applies it last."""

_PATH = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{CONFIGURATION}"


class _Condition(Struct, frozen=True):
    expression: str = ""


class _ConditionalHook(Struct, frozen=True):
    match_conditions: tuple[_Condition, ...] = ()


class _Configuration(Struct, frozen=True):
    webhooks: tuple[_ConditionalHook, ...] = ()


class ConfigurationApi(Protocol):
    """Where the webhook configuration is read."""

    async def request(self, method: str, path: str) -> bytes:
        """Send a request and return the response's body."""


class OwnAccount:
    """Compares the account in the validating webhook configuration with the controller's, again and again.

    Needs the right to read the configuration, which the controller has for the certificates that it keeps itself.

    Args:
        namespace: the controller's.

    Attributes:
        problem: what is wrong, and how to correct it; empty where nothing is known to be.
    """

    def __init__(self, api: ConfigurationApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self.problem = ""

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            known = await self._look()
            await asyncio.sleep(CHECK_SECONDS if known and not self.problem else RETRY_SECONDS)

    async def _look(self) -> bool:
        """Compare once; return whether the configuration could be read."""
        try:
            found = msgspec.json.decode(await self._api.request("GET", _PATH), type=_Configuration)
        except (ClusterError, msgspec.DecodeError):
            return False  # what was found last counts; the keeper of the certificates logs that it cannot be read
        problem = describe(found, self._namespace)
        if problem != self.problem:
            self.problem = problem
            if problem:
                log_event("installation.wrong_account", level=logging.ERROR, problem=problem)
            else:
                log_event("installation.corrected")
        return True


def describe(configuration: _Configuration, namespace: str) -> str:
    """Return what is wrong with the accounts that a configuration names, and the remedy; empty where nothing is."""
    others = find_other_accounts(_expressions(configuration), namespace)
    if not others:
        return ""
    return (
        f"the webhook configuration {CONFIGURATION} takes {' and '.join(others)} for the controller, which is "
        f"{controller_account(namespace)}: {REMEDY}"
    )


def _expressions(configuration: _Configuration) -> Iterator[str]:
    return (condition.expression for hook in configuration.webhooks for condition in hook.match_conditions)
