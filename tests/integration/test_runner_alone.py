"""The runner works without the packages of the guard, whose commands say what to install."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from webhook.cli.main import _COMMANDS

if TYPE_CHECKING:
    from tests.integration.conftest import Ledgergate

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements/runner.txt"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line in an environment with the packages of `requirements/runner.txt` and no other."""
    environment = tmp_path_factory.mktemp("runner")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=120)
    python = environment / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    for name in ("ledgergate", *re.findall(r"^([\w.-]+)==", LOCK.read_text(), re.MULTILINE)):
        found = distribution(name)
        for top in {path.parts[0] for path in found.files or () if path.parts[0] not in {"..", "__pycache__"}}:
            (site / top).symlink_to(Path(str(found.locate_file(top))))
    (site / "checkout.pth").write_text(f"{ROOT}\n")
    return [str(python), "-P", "-c", "from webhook.cli.entry_point import main; main()"]


def test_migrate_works_without_the_guard(program: list[str], ledgergate: Ledgergate) -> None:
    """All of it: up, status, lint and the revision."""
    ledgergate.write("people", "create table people (id int);")
    for arguments in (["up"], ["up"], ["status"], ["lint"], ["revision"], ["wait", "--timeout", "5s"]):
        done = subprocess.run(
            [*program, "migrate", *arguments],
            cwd=ledgergate.home,
            env=ledgergate.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", sorted(_COMMANDS.keys() - {"migrate"}))
def test_every_other_command_says_what_to_install(program: list[str], command: str) -> None:
    """Exit 2, the missing packages and the command that installs them, and no traceback."""
    done = subprocess.run([*program, command, "--help"], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "kubernetes_asyncio" in done.stderr
    assert "pip install 'ledgergate[guard]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_needs_no_guard(program: list[str]) -> None:
    """The list of commands and the version are the runner's too."""
    for flag in ("--help", "--version"):
        done = subprocess.run([*program, flag], check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
