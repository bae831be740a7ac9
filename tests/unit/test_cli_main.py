"""The command line: what each command imports, and the exit codes of bad settings."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from webhook.cli.main import main
from webhook.kube.kubeconfig import KubeconfigError, connect

CODE = """
import sys
from webhook.cli.main import main
try:
    main()
finally:
    heavy = {"kubernetes_asyncio", "aiohttp", "asyncpg", "pglast", "cryptography", "prometheus_client"}
    sys.stderr.write("imported: " + ",".join(sorted(heavy & sys.modules.keys())))
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, without LEDGERGATE_ variables in its environment."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("LEDGERGATE_", "KUBE"))}
    return subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**clean, **environment},
    )


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(done.stderr.rpartition("imported: ")[2].split(",")) - {""}


def test_help_imports_no_command() -> None:
    """Listing the commands imports none of them."""
    done = run("--help")
    assert done.returncode == 0
    for command in ("migrate", "webhook", "controller"):
        assert command in done.stdout
    assert imported(done) == set()


@pytest.mark.parametrize("arguments", [("--help",), ("up", "--help"), ("status", "--help")])
def test_migrate_imports_nothing_of_kubernetes(arguments: tuple[str, ...]) -> None:
    """`migrate up` with nothing pending starts fast: the client library alone would cost half a second."""
    done = run("migrate", *arguments)
    assert done.returncode == 0, done.stderr
    assert not imported(done) & {"kubernetes_asyncio", "aiohttp", "prometheus_client", "cryptography"}


@pytest.mark.parametrize("command", ["webhook", "controller"])
def test_every_flag_has_its_environment_twin(command: str) -> None:
    """The help shows both; the twin is the flag in capitals."""
    done = CliRunner().invoke(main, [command, "--help"])
    assert done.exit_code == 0
    options = set(re.findall(r"^  (--[a-z-]+)", done.output, re.MULTILINE)) - {"--help"}
    assert {"--kubeconfig", "--namespace", "--webhook-url", "--metrics-bind", "--log-format"} <= options
    for option in options:
        assert f"LEDGERGATE_{option[2:].replace('-', '_').upper()}" in done.output


@pytest.mark.parametrize("command", ["webhook", "controller"])
def test_every_bad_setting_is_reported_at_once(command: str) -> None:
    """Exit 2, and each problem on a line of its own."""
    arguments = ["--namespace", "No_Name", "--kubeconfig", "/nowhere/config", "--webhook-url", "http://x"]
    done = CliRunner().invoke(main, [command, *arguments])
    assert done.exit_code == 2
    for flag in ("--namespace:", "--kubeconfig:", "--webhook-url:"):
        assert flag in done.output


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (("webhook", "--bind", "nonsense"), {}, "expected HOST:PORT"),
        (("webhook",), {"LEDGERGATE_BIND": "nonsense"}, "expected HOST:PORT"),
        (("webhook", "--drain", "-1"), {}, "--drain"),
        (("webhook", "--drain", "nan"), {}, "expected seconds, or a duration such as"),
        (("webhook", "--drain", "1e300"), {}, "--drain"),
        (("controller", "--lease-duration", "2"), {}, "--lease-duration"),
        (("webhook", "extra"), {}, "extra"),
        (("nosuch",), {}, "nosuch"),
    ],
)
def test_bad_usage_ends_with_two(arguments: tuple[str, ...], environment: dict[str, str], says: str) -> None:
    """Exit 2, and a message with what is expected or which flag is wrong."""
    done = CliRunner().invoke(main, arguments, env=environment)
    assert done.exit_code == 2, done.output
    assert says in done.output


@pytest.mark.parametrize("command", ["webhook", "controller"])
def test_outside_a_cluster_the_message_names_the_kubeconfig_flag(command: str) -> None:
    """Started outside a pod without any flag: exit 2 and the flag that is missing."""
    done = run(command)
    assert done.returncode == 2, done.stderr
    assert "--kubeconfig" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", ["{]", "", "[]", "a: b", "current-context: x\ncontexts: []", "\0"])
async def test_a_kubeconfig_that_cannot_be_read_is_named(content: str, tmp_path: Path) -> None:
    """However it is broken, the error names the file."""
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(KubeconfigError, match=re.escape(str(path))):
        await connect(path, "test")


def test_version() -> None:
    """The version is the package's."""
    done = CliRunner().invoke(main, ["--version"])
    assert done.output == f"ledgergate, version {version('ledgergate')}\n"
