"""The commands of ``ledgergate``."""

from importlib.util import find_spec

import click

from migrations.cli.conventions import LazyCommands

_COMMANDS = {
    "migrate": ("migrations.cli.main:migrate", "Apply and inspect migrations, exactly once, under one lock."),
    "webhook": ("webhook.cli.serve:webhook", "Run the admission server."),
    "controller": ("webhook.cli.serve:controller", "Run the controller: releases, status, certificates."),
    "status": ("webhook.cli.status:status", "Show gates and held pods, each with the reason."),
    "bypass": ("webhook.cli.bypass:bypass", "Open a gate for a limited time, in an emergency."),
    "check": ("webhook.cli.check:check", "Ask the guard whether a workload's pods would start now."),
    "annotate": ("webhook.cli.annotate:annotate", "Write a directory's revision into rendered manifests."),
    "image": ("webhook.cli.image:image", "Show what an image needs of its ledger, by its labels."),
    "release": ("webhook.cli.release:release", "Take ledgergate's scheduling gate off every pod."),
    "probe": ("webhook.cli.probe:probe", "Show whether the API server reaches the webhook."),
}

_GUARD = ("aiohttp", "cryptography", "kubernetes_asyncio", "msgspec", "prometheus_client", "uvloop", "yaml")
"""What the extra `guard` installs. `ledgergate migrate` is the runner, which works without."""


class _Commands(click.Group):
    """A group that lists its commands without importing them: kubernetes_asyncio alone takes half a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "migrate" and cmd_name in _COMMANDS:
            missing = [name for name in _GUARD if find_spec(name) is None]
            if missing:
                raise click.UsageError(
                    f"`{cmd_name}` needs more than the runner, and {', '.join(missing)} is not installed: "
                    "pip install 'ledgergate[guard]'",
                    ctx,
                )
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(
    cls=_Commands,
    commands=LazyCommands({name: location for name, (location, _) in _COMMANDS.items()}),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Each command explains itself: ledgergate migrate --help, ledgergate migrate up --help.",
)
@click.version_option(package_name="ledgergate", prog_name="ledgergate")
def main() -> None:
    """Keep pods from starting before their database is migrated, and migrate it exactly once."""
