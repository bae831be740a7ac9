"""Read what an image says of itself from its registry."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from webhook.registries.authentication import unauthorized
from webhook.registries.connector import BoundedResolver, trust_roots
from webhook.registries.credentials import NO_CREDENTIALS, Keyring
from webhook.registries.reference import ImageReference, ImageReferenceError
from webhook.registries.repository import Repository
from webhook.registries.result import ImageLabels, Platform, RegistryFailure, Unresolved, UnresolvedReason
from webhook.registries.settings import RegistrySettings
from webhook.registries.transport import RegistryTransport
from webhook.telemetry import log_event

Found = TypeVar("Found")
_MAX_LOGINS = 8
"""Credentials that are tried; a pod has one or two for a registry."""
_NEXT_LOGIN = frozenset({UnresolvedReason.UNAUTHORIZED, UnresolvedReason.NOT_FOUND})


class RegistryClient:
    """Asks registries for labels. Between two readings it keeps only threads for names, and the trusted authorities.

    Args:
        settings: which registries are asked, and how.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._resolver = BoundedResolver(search_domains=settings.search_domains)
        self._trusted: tuple[int | None, ssl.SSLContext] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._resolver.close()

    async def read(
        self, reference: str, keyring: Keyring = NO_CREDENTIALS, platforms: Sequence[Platform] = ()
    ) -> ImageLabels | Unresolved:
        """Read an image's labels. Whatever the registry does, the result is a value.

        Args:
            reference: the image, as it stands in a pod.
            keyring: the credentials that may be used.
            platforms: of the nodes; empty for every platform of an index.
        """
        return await self._ask(reference, keyring, lambda repository: repository.labels(platforms))

    async def read_digest(self, reference: str, keyring: Keyring = NO_CREDENTIALS) -> str | Unresolved:
        """Read which digest a reference has now, with a request that registries do not count as a pull."""
        return await self._ask(reference, keyring, lambda repository: repository.digest())

    async def _ask(
        self, text: str, keyring: Keyring, work: Callable[[Repository], Awaitable[Found]]
    ) -> Found | Unresolved:
        try:
            reference = self._permitted(text)
            async with asyncio.timeout(self._settings.limits.total):
                return await self._try_endpoints(reference, keyring, work)
        except RegistryFailure as failure:
            return failure.unresolved
        except TimeoutError:
            return Unresolved(
                UnresolvedReason.UNREACHABLE,
                f"the registry does not answer within {self._settings.limits.total:g} s",
                "check that it runs, and that ledgergate may connect to it",
            )
        except OSError:  # the file of authorities; errors of connections are RegistryFailures by now
            return Unresolved(
                UnresolvedReason.UNTRUSTED,
                "the file of certificate authorities cannot be read",
                "mount a PEM file with at least one certificate",
            )
        except Exception as error:  # noqa: BLE001 - an image is a tenant's text: it must not end the caller
            log_event("image_reading_failed", level=logging.ERROR, trace=True, image=text[:200], error=str(error))
            return Unresolved(
                UnresolvedReason.MALFORMED,
                "the registry answers with something that ledgergate does not understand",
                "report it, with the log",
            )

    def _permitted(self, text: str) -> ImageReference:
        try:
            reference = ImageReference.parse(text)
        except ImageReferenceError as error:
            raise RegistryFailure(UnresolvedReason.INVALID_REFERENCE, str(error), "correct the image") from error
        if not self._settings.allows(reference.registry):
            raise RegistryFailure(
                UnresolvedReason.NOT_ALLOWED,
                f"{reference.registry} is not among the registries that may be asked",
                "add it to the allowed registries of ledgergate",
            )
        return reference

    async def _try_endpoints(
        self, reference: ImageReference, keyring: Keyring, work: Callable[[Repository], Awaitable[Found]]
    ) -> Found:
        *mirrors, own = self._settings.endpoints(reference.registry)
        share = self._settings.limits.total / (len(mirrors) + 1)
        for mirror in mirrors:
            # The registry itself is asked next, has its share of the time, and its answer counts.
            with suppress(RegistryFailure, TimeoutError):
                async with asyncio.timeout(share):
                    return await self._try_logins(mirror, reference, keyring, work)
        return await self._try_logins(own, reference, keyring, work)

    async def _try_logins(
        self,
        authority: str,
        reference: ImageReference,
        keyring: Keyring,
        work: Callable[[Repository], Awaitable[Found]],
    ) -> Found:
        """Try each credential, and at last none: only the registry knows which of them opens a repository."""
        logins = keyring.find(authority, reference.repository)[:_MAX_LOGINS]
        trust = self._trust()
        failures: list[RegistryFailure] = []
        for credential in (*logins, None):
            async with RegistryTransport(self._settings, self._resolver, trust) as transport:
                try:
                    return await work(Repository(transport, self._settings, authority, reference, credential))
                except RegistryFailure as failure:
                    failures.append(failure)
                    # The last try, without a login, does not hide why the ones before have failed.
                    if failure.unresolved.reason not in _NEXT_LOGIN and (credential or not logins):
                        raise
        refusals = [each for each in failures if each.unresolved.reason is UnresolvedReason.UNAUTHORIZED]
        if not refusals:
            raise failures[-1]
        helper = keyring.helper(authority)
        if len(logins) == 1 or not (logins or helper):
            raise refusals[0]
        raise unauthorized(authority, reference.repository, logins=len(logins), helper=helper)

    def _trust(self) -> ssl.SSLContext:
        """Return whom TLS trusts; reading the system's authorities takes 20 ms, so once for each state of the file."""
        file = self._settings.ca_file
        state = None if file is None else file.stat().st_mtime_ns
        if self._trusted is None or self._trusted[0] != state:
            self._trusted = (state, trust_roots(file))
        return self._trusted[1]
