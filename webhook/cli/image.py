"""`ledgergate image`: what an image says of itself, read as the controller reads it, with the user's docker login."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click

from migrations.cli.conventions import SECONDS, Exit, flag, format_examples
from migrations.core.contract import parse_contracts
from webhook.core.proxies import Proxies
from webhook.registries.addresses import EVERYTHING
from webhook.registries.client import RegistryClient
from webhook.registries.credentials import NO_CREDENTIALS, CredentialsError, Keyring
from webhook.registries.result import ImageLabels, Platform, Unresolved
from webhook.registries.settings import RegistryLimits, RegistrySettings

_MAX_CONFIG = 2 * 1024 * 1024  # bytes of config.json that are read


@dataclass(frozen=True, slots=True)
class _Login:
    """Where docker and podman keep the logins of a user."""

    directory: Path | None

    def read(self) -> Keyring:
        """Return the logins; none where there is no file.

        Raises:
            CredentialsError: the file has another form.
        """
        home = Path(os.environ.get("HOME") or "/")
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        podman = [Path(runtime) / "containers/auth.json"] if runtime else []
        files = [self.directory / "config.json"] if self.directory else [home / ".docker/config.json", *podman]
        return Keyring.merged(_parse(file) for file in files if file.is_file()) if files else NO_CREDENTIALS


def _parse(file: Path) -> Keyring:
    try:
        with file.open("rb") as opened:
            return Keyring.parse(opened.read(_MAX_CONFIG))
    except CredentialsError as error:
        raise CredentialsError(f"{file}: {error}") from error
    except OSError as error:
        raise CredentialsError(f"{file}: expected a file that can be read: {error.strerror}") from error


@click.command(
    epilog=format_examples(
        "ledgergate image ghcr.io/shop/gateway:2",
        "ledgergate image localhost:5000/gateway --plain-http localhost:5000",
        "ledgergate image ghcr.io/shop/gateway:2 --platform linux/arm64 --output json",
    )
)
@click.argument("reference", metavar="REF")
@flag("--platform", "Platform of the nodes, such as linux/arm64; may be repeated. Without it: all.", multiple=True)
@flag("--output", "Lines for a person, or JSON.", "-o", type=click.Choice(["text", "json"]), default="text")
@flag("--ca-file", "PEM file of further certificate authorities.", type=click.Path(path_type=Path))
@flag("--plain-http", "HOST[:PORT] of a registry without TLS; may be repeated.", multiple=True)
@flag(
    "--docker-config",
    "Directory of config.json. Without it: ~/.docker, and podman's file.",
    type=click.Path(path_type=Path),
    twins=("DOCKER_CONFIG",),
)
@flag("--timeout", "How long to try the registry.", type=SECONDS, default="20s", show_default=True, metavar="DURATION")
def image(
    reference: str,
    platform: tuple[str, ...],
    output: str,
    ca_file: Path | None,
    plain_http: tuple[str, ...],
    docker_config: Path | None,
    timeout: float,
) -> None:
    """Print what the image REF says of itself: what it needs of the ledger, and what it breaks.

    Read from its registry by the same client as the controller's, with the user's docker login and without pulling the
    image. Exits 2 when the image cannot be read, 4 when the registry does not answer.
    """
    try:
        nodes = tuple(map(Platform.parse, platform))
        keyring = _Login(docker_config).read()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    settings = RegistrySettings(
        addresses=EVERYTHING,
        plain_http=frozenset(each.lower() for each in plain_http),
        ca_file=ca_file,
        proxies=Proxies.from_environment(os.environ),
        search_domains=True,
        limits=replace(RegistryLimits(), total=timeout),
    )
    if problems := settings.problems():
        raise click.UsageError("\n".join(problems))
    sys.exit(_report(asyncio.run(_read(settings, reference, keyring, nodes)), output))


async def _read(
    settings: RegistrySettings, reference: str, keyring: Keyring, platforms: tuple[Platform, ...]
) -> ImageLabels | Unresolved:
    async with RegistryClient(settings) as client:
        return await client.read(reference, keyring, platforms)


def _report(found: ImageLabels | Unresolved, output: str) -> Exit:
    if isinstance(found, Unresolved):
        click.echo(f"ledgergate: {found}", err=True)
        return Exit.UNREACHABLE if found.transient else Exit.USAGE
    if output == "json":
        click.echo(json.dumps(_document(found), ensure_ascii=False))
    else:
        for line in _lines(found):
            click.echo(line)
    if found.revision is None:
        click.echo(
            "ledgergate: the image has no label dev.ledgergate.revision; build it with "
            "docker build $(ledgergate migrate revision --output labels) .",
            err=True,
        )
    return Exit.DONE


def _lines(found: ImageLabels) -> Iterator[str]:
    yield f"image      {found.reference}"
    yield f"platforms  {', '.join(str(each.platform) for each in found.platforms)}"
    yield f"needs      {found.revision or 'nothing that it says'}"
    for contract in parse_contracts(found.contract):
        yield f"brings     {contract.revision}, after which images older than {contract.compatible_from} cannot run"


def _document(found: ImageLabels) -> dict[str, object]:
    return {
        "image": found.reference,
        "digest": found.digest,
        "platforms": {str(each.platform): each.digest for each in found.platforms},
        "revision": found.revision,
        "contracts": [contract._asdict() for contract in parse_contracts(found.contract)],
        "ancestors": None if found.ancestors is None else found.ancestors.split(",") if found.ancestors else [],
    }
