"""The requests for one image: manifest, index, config blob.

Source: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md, "Pull".
"""

from collections.abc import Sequence

from yarl import URL

from migrations.core.declaration import ANCESTORS_LABEL, CONTRACT_LABEL, REVISION_LABEL
from webhook.registries.authentication import authorize, unauthorized
from webhook.registries.credentials import Credential
from webhook.registries.documents import (
    ACCEPT,
    Descriptor,
    Labels,
    Manifest,
    config_of,
    decode_config,
    decode_manifest,
    digest_of,
    images_of,
    labels_of,
    verify,
)
from webhook.registries.reference import DIGEST, ImageReference
from webhook.registries.result import ImageLabels, Platform, PlatformImage, RegistryFailure, UnresolvedReason
from webhook.registries.settings import RegistrySettings
from webhook.registries.transport import RegistryAnswer, RegistryTransport

_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404


class Repository:
    """One repository at one endpoint, asked with one credential.

    Args:
        transport: makes the requests.
        settings: the limits, and which token servers may see credentials.
        authority: HOST[:PORT] of the endpoint.
        reference: the image.
        credential: the login; None for none.
    """

    def __init__(
        self,
        transport: RegistryTransport,
        settings: RegistrySettings,
        authority: str,
        reference: ImageReference,
        credential: Credential | None,
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._authority = authority
        self._reference = reference
        self._credential = credential
        self._authorization: str | None = None

    async def labels(self, platforms: Sequence[Platform]) -> ImageLabels:
        """Return the labels of the image, which are the same on each of its platforms."""
        digest, manifest = await self._manifest(self._reference.version)
        if manifest.manifests is None:
            platform, labels = await self._image(manifest)
            if platforms and not any(node.runs(platform) for node in platforms):
                wanted = " or ".join(map(str, platforms))
                raise RegistryFailure(
                    UnresolvedReason.NO_PLATFORM,
                    f"the image is not built for {wanted}, it is built for {platform}",
                    "build it for the platform of the nodes",
                )
            read = [(PlatformImage(platform, digest), labels)]
        else:
            chosen = images_of(manifest, platforms, self._settings.limits.platforms)
            read = [await self._platform_image(each) for each in chosen]
        (first, (revision, contract, ancestors)) = read[0]
        for other, labels in read[1:]:
            if labels != read[0][1]:
                raise _disagreement(first.platform, read[0][1], other.platform, labels)
        return ImageLabels(
            reference=f"{self._reference.name}@{digest}",
            digest=digest,
            revision=revision,
            contract=contract,
            ancestors=ancestors,
            platforms=tuple(image for image, _ in read),
        )

    async def digest(self) -> str:
        """Return the digest that the reference has now."""
        if self._reference.digest:
            return self._reference.digest
        answer = await self._get(
            f"manifests/{self._reference.version}", self._settings.limits.manifest, method="HEAD", accept=ACCEPT
        )
        found = answer.headers.get("Docker-Content-Digest", "")
        return found if DIGEST.fullmatch(found) else (await self._manifest(self._reference.version))[0]

    async def _platform_image(self, descriptor: Descriptor) -> tuple[PlatformImage, Labels]:
        _, manifest = await self._manifest(descriptor.digest)
        platform, labels = await self._image(manifest)
        return PlatformImage(platform, descriptor.digest), labels

    async def _image(self, manifest: Manifest) -> tuple[Platform, Labels]:
        descriptor = config_of(manifest)
        limit = self._settings.limits.config
        if descriptor.size > limit:
            raise RegistryFailure(
                UnresolvedReason.TOO_LARGE,
                f"the image's configuration has {descriptor.size} bytes, more than {limit}",
                "name an image of usual size",
            )
        content = (await self._get(f"blobs/{descriptor.digest}", limit)).body
        verify(content, descriptor.digest, "the image's configuration")
        config = decode_config(content)
        return config.platform, labels_of(config)

    async def _manifest(self, version: str) -> tuple[str, Manifest]:
        """Return a manifest or index with its digest, which is verified."""
        answer = await self._get(f"manifests/{version}", self._settings.limits.manifest, accept=ACCEPT)
        expected = version if ":" in version else answer.headers.get("Docker-Content-Digest", "")
        if expected:
            verify(answer.body, expected, "the manifest")
        return expected or digest_of(answer.body), decode_manifest(answer.body)

    async def _get(self, path: str, limit: int, *, method: str = "GET", accept: str = "*/*") -> RegistryAnswer:
        url = URL(
            f"{self._settings.scheme(self._authority)}://{self._authority}/v2/{self._reference.repository}/{path}"
        )
        answer = await self._send(url, limit, method, accept)
        if answer.status == _UNAUTHORIZED and self._authorization is None:
            self._authorization = await authorize(
                self._transport,
                self._settings,
                authority=self._authority,
                repository=self._reference.repository,
                credential=self._credential,
                refused=answer,
            )
            answer = await self._send(url, limit, method, accept)
        if answer.status in {_UNAUTHORIZED, _FORBIDDEN}:
            raise unauthorized(self._authority, self._reference.repository, logins=1 if self._credential else 0)
        if answer.status == _NOT_FOUND:
            raise RegistryFailure(
                UnresolvedReason.NOT_FOUND,
                f"{self._reference} is not in its registry, or may not be seen",
                "push it, or add a pull secret that may pull it",
            )
        if answer.status != _OK:
            raise RegistryFailure(
                UnresolvedReason.MALFORMED,
                f"{self._authority} answers with HTTP {answer.status}",
                "check that it is a registry of the OCI distribution specification",
            )
        return answer

    async def _send(self, url: URL, limit: int, method: str, accept: str) -> RegistryAnswer:
        headers = {"Accept": accept}
        if self._authorization is not None:
            headers["Authorization"] = self._authorization
        return await self._transport.request(url, limit=limit, method=method, headers=headers)


def _disagreement(
    first: Platform,
    labels: Labels,
    second: Platform,
    others: Labels,
) -> RegistryFailure:
    names = (REVISION_LABEL, CONTRACT_LABEL, ANCESTORS_LABEL)
    name, left, right = next(
        (name, left, right) for name, left, right in zip(names, labels, others, strict=True) if left != right
    )
    return RegistryFailure(
        UnresolvedReason.LABELS_DISAGREE,
        f"the image's platforms have different labels {name}: {first} has {(left or 'none')[:200]}, "
        f"{second} has {(right or 'none')[:200]}",
        "build every platform from the same directory of migrations",
    )
