"""The commands of ``ledgergate``: one is imported when it is called, so that none pays for the others."""

import gc
from importlib import import_module

import click

_COMMANDS = {
    "migrate": ("migrations.cli", "Apply and inspect migrations, exactly once, under one lock."),
    "webhook": ("webhook.roles", "Run the admission server."),
    "controller": ("webhook.roles", "Run the controller: releases, status, certificates."),
    "status": ("webhook.commands.status", "Show gates and held pods, each with the reason."),
    "bypass": ("webhook.commands.bypass", "Open a gate for a limited time, in an emergency."),
    "release": ("webhook.commands.release", "Take every scheduling gate of ours off, before uninstalling."),
}


class _LazyGroup(click.Group):
    """Lists commands without importing them (kubernetes_asyncio alone costs half a second)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[cmd_name][0]), cmd_name)
        gc.freeze()
        gc.enable()
        assert isinstance(command, click.Command)  # noqa: S101 - a slip in the table above
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Each command explains itself: ledgergate migrate --help, ledgergate migrate up --help.",
)
@click.version_option(package_name="ledgergate", prog_name="ledgergate")
def main() -> None:
    """Keep pods from starting before their database is migrated, and migrate it exactly once."""
