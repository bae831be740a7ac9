"""Images made of their documents, and pushed by the distribution specification: no builder is needed for labels."""

import hashlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
REVISION = "dev.ledgergate.revision"


def digest(content: bytes) -> str:
    """Return the digest of a content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True, slots=True)
class RegistryImage:
    """One platform's image.

    Args:
        labels: its labels.
        architecture: what it is built for.
        docker: whether its documents are of Docker's media types.
    """

    labels: Mapping[str, str] | None = None
    architecture: str = "amd64"
    docker: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def media_type(self) -> str:
        """Of the manifest."""
        return DOCKER_MANIFEST if self.docker else OCI_MANIFEST

    @property
    def config(self) -> bytes:
        """The config blob."""
        document = {
            "os": "linux",
            "architecture": self.architecture,
            "config": {"Labels": None if self.labels is None else dict(self.labels), **self.extra},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
        return json.dumps(document).encode()

    @property
    def manifest(self) -> bytes:
        """The manifest."""
        config = {
            "mediaType": DOCKER_CONFIG if self.docker else OCI_CONFIG,
            "digest": digest(self.config),
            "size": len(self.config),
        }
        return json.dumps({"schemaVersion": 2, "mediaType": self.media_type, "config": config, "layers": []}).encode()

    def descriptor(self) -> dict[str, Any]:
        """Return how an index names it."""
        unknown = self.architecture == "unknown"
        return {
            "mediaType": self.media_type,
            "digest": digest(self.manifest),
            "size": len(self.manifest),
            "platform": {"os": "unknown" if unknown else "linux", "architecture": self.architecture},
            **({"annotations": {"vnd.docker.reference.type": "attestation-manifest"}} if unknown else {}),
        }


ATTESTATION = RegistryImage({REVISION: "of an attestation"}, "unknown")
"""What buildx puts beside an image, with the platform unknown/unknown."""


def index(*images: RegistryImage, docker: bool = False) -> bytes:
    """Return an index of images."""
    descriptors = [image.descriptor() for image in images]
    kind = DOCKER_INDEX if docker else OCI_INDEX
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": descriptors}).encode()


class Pusher:
    """Pushes to one repository.

    Args:
        url: of the registry.
        repository: name of the repository.
        trust: whom TLS trusts.
        authorization: header of every request; None for none.
    """

    def __init__(
        self, url: str, repository: str, *, trust: ssl.SSLContext | None = None, authorization: str | None = None
    ) -> None:
        self._base = f"{url}/v2/{repository}"
        self._trust = trust
        self._headers = {"Authorization": authorization} if authorization else {}

    async def image(self, image: RegistryImage, tag: str | None = None) -> str:
        """Push an image and return its digest."""
        async with self._session() as session:
            await self._blob(session, image.config)
            return await self._manifest(session, image.manifest, image.media_type, tag)

    async def index(self, content: bytes, tag: str, *images: RegistryImage) -> str:
        """Push an index after its images, and return its digest."""
        for image in images:
            await self.image(image)
        async with self._session() as session:
            return await self._manifest(session, content, json.loads(content)["mediaType"], tag)

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self._trust) if self._trust else None
        return aiohttp.ClientSession(headers=self._headers, connector=connector)

    async def _blob(self, session: aiohttp.ClientSession, content: bytes) -> None:
        async with session.post(f"{self._base}/blobs/uploads/") as begun:
            assert begun.status == 202, await begun.text()
            where = URL(begun.headers["Location"])
        async with session.put(where.update_query(digest=digest(content)), data=content) as done:
            assert done.status == 201, await done.text()

    async def _manifest(self, session: aiohttp.ClientSession, content: bytes, kind: str, tag: str | None) -> str:
        name = tag or digest(content)
        async with session.put(f"{self._base}/manifests/{name}", data=content, headers={"Content-Type": kind}) as done:
            assert done.status == 201, await done.text()
        return digest(content)
