"""What an image says, read from a real registry server."""

from testbed.registries.images import ATTESTATION, REVISION, Pusher, RegistryImage, index
from testbed.registries.server import Registry
from webhook.registries.client import RegistryClient
from webhook.registries.result import ImageLabels, Platform, Unresolved, UnresolvedReason

LABELS = {
    REVISION: "20250126120000_b+2.e9c8fde0eb2f",
    "dev.ledgergate.contract": "20250301000000_c:20250126120000_b",
    "maintainer": "shop",
}


async def read(client: RegistryClient, reference: str, *platforms: Platform) -> ImageLabels:
    found = await client.read(reference, platforms=platforms)
    assert isinstance(found, ImageLabels), str(found)
    return found


async def refuse(client: RegistryClient, reference: str, *platforms: Platform) -> Unresolved:
    found = await client.read(reference, platforms=platforms)
    assert isinstance(found, Unresolved), found
    return found


async def test_the_labels_of_an_image(
    client: RegistryClient, registry: Registry, pusher: Pusher, repository: str
) -> None:
    """By tag and by digest, in the OCI's media types and Docker's; with the digest that the tag has."""
    for docker in (False, True):
        digest = await pusher.image(RegistryImage(LABELS, docker=docker), "1")
        for reference in (f"{registry.authority}/{repository}:1", f"{registry.authority}/{repository}@{digest}"):
            found = await read(client, reference)
            assert found.reference == f"{registry.authority}/{repository}@{digest}"
            assert (found.digest, found.revision) == (digest, LABELS[REVISION])
            assert found.contract == LABELS["dev.ledgergate.contract"]
            assert found.ancestors is None
            assert [str(each.platform) for each in found.platforms] == ["linux/amd64"]
        assert await client.read_digest(f"{registry.authority}/{repository}:1") == digest


async def test_a_tag_that_is_moved(client: RegistryClient, registry: Registry, pusher: Pusher, repository: str) -> None:
    """The next reading has the new image; the old one is still there by its digest."""
    reference = f"{registry.authority}/{repository}:latest"
    old = await pusher.image(RegistryImage({REVISION: "1_a"}), "latest")
    assert (await read(client, reference)).revision == "1_a"
    new = await pusher.image(RegistryImage({REVISION: "2_b"}), "latest")
    moved = await read(client, reference)
    assert (moved.digest, moved.revision) == (new, "2_b")
    assert await client.read_digest(reference) == new
    assert (await read(client, f"{reference}@{old}")).revision == "1_a"


async def test_an_image_without_the_label(
    client: RegistryClient, registry: Registry, pusher: Pusher, repository: str
) -> None:
    """It is read, and says nothing: with other labels, without labels, with none in its configuration."""
    for tag, labels in (("other", {"maintainer": "shop"}), ("empty", {}), ("null", None)):
        await pusher.image(RegistryImage(labels), tag)
        found = await read(client, f"{registry.authority}/{repository}:{tag}")
        assert (found.revision, found.contract, found.ancestors) == (None, "", None)


async def test_an_index_of_two_platforms(
    client: RegistryClient, registry: Registry, pusher: Pusher, repository: str
) -> None:
    """Each platform is read; the builder's attestation is not one. The digest is that of the index."""
    images = RegistryImage(LABELS), RegistryImage(LABELS, "arm64"), ATTESTATION
    reference = f"{registry.authority}/{repository}:1"
    digest = await pusher.index(index(*images), "1", *images)
    found = await read(client, reference)
    assert (found.digest, found.revision) == (digest, LABELS[REVISION])
    assert [str(each.platform) for each in found.platforms] == ["linux/amd64", "linux/arm64"]
    found = await read(client, reference, Platform("linux", "arm64"))
    assert [str(each.platform) for each in found.platforms] == ["linux/arm64"]


async def test_labels_that_disagree(
    client: RegistryClient, registry: Registry, pusher: Pusher, repository: str
) -> None:
    """Both platforms and both labels are named; a platform of the nodes alone has its own label."""
    images = RegistryImage({REVISION: "1_a"}), RegistryImage({REVISION: "2_b"}, "arm64"), RegistryImage(None, "s390x")
    reference = f"{registry.authority}/{repository}:1"
    await pusher.index(index(*images, docker=True), "1", *images)
    found = await refuse(client, reference)
    assert found.reason is UnresolvedReason.LABELS_DISAGREE
    assert "linux/amd64 has 1_a, linux/arm64 has 2_b" in found.message
    assert (await read(client, reference, Platform("linux", "arm64"))).revision == "2_b"
    found = await refuse(client, reference, Platform("linux", "arm64"), Platform("linux", "s390x"))
    assert "linux/arm64 has 2_b, linux/s390x has none" in found.message


async def test_a_platform_that_is_missing(
    client: RegistryClient, registry: Registry, pusher: Pusher, repository: str
) -> None:
    """The message names what is wanted and what there is, of an index and of a single image."""
    images = RegistryImage(LABELS), RegistryImage(LABELS, "arm64")
    await pusher.index(index(*images), "index", *images)
    await pusher.image(RegistryImage(LABELS), "single")
    for tag, built in (("index", "linux/amd64, linux/arm64"), ("single", "linux/amd64")):
        found = await refuse(client, f"{registry.authority}/{repository}:{tag}", Platform("linux", "riscv64"))
        assert found.reason is UnresolvedReason.NO_PLATFORM
        assert f"not built for linux/riscv64, it is built for {built}" in found.message


async def test_what_is_not_there(client: RegistryClient, registry: Registry, pusher: Pusher, repository: str) -> None:
    """A tag, a digest or a repository that the registry does not have."""
    await pusher.image(RegistryImage(LABELS), "1")
    for missing in (f"{repository}:2", f"{repository}@sha256:{'0' * 64}", "nothing/here"):
        found = await refuse(client, f"{registry.authority}/{missing}")
        assert found.reason is UnresolvedReason.NOT_FOUND
        assert not found.transient


async def test_a_label_that_cannot_be_read(
    client: RegistryClient, registry: Registry, pusher: Pusher, repository: str
) -> None:
    """It is bounded text in a known form, or the image counts as unresolved, with the label's name and the form."""
    bad = {
        "long": {REVISION: "x" * 100_000},
        "control": {REVISION: "1_a\x1b[31m"},
        "suffix": {REVISION: "1_a+x"},
        "empty": {REVISION: ""},
        "contract": {REVISION: "1_a", "dev.ledgergate.contract": "no"},
        "contracts": {REVISION: "1_a", "dev.ledgergate.contract": "a:b " * 2000},
        "ancestors": {REVISION: "1_a", "dev.ledgergate.ancestors": "x," * 40_000},
    }
    for tag, labels in bad.items():
        await pusher.image(RegistryImage(labels), tag)
        found = await refuse(client, f"{registry.authority}/{repository}:{tag}")
        assert found.reason is UnresolvedReason.INVALID_LABEL
        assert list(labels)[-1] in found.message
        assert len(str(found)) < 1000
        assert found.message.isprintable()


async def test_a_registry_that_is_down(
    client: RegistryClient, registry: Registry, pusher: Pusher, repository: str
) -> None:
    """Unreachable while it is down, and read again when it is back."""
    await pusher.image(RegistryImage(LABELS), "1")
    reference = f"{registry.authority}/{repository}:1"
    registry.stop()
    try:
        found = await refuse(client, reference)
    finally:
        registry.start()
    assert found.reason is UnresolvedReason.UNREACHABLE
    assert found.transient
    assert (await read(client, reference)).revision == LABELS[REVISION]
