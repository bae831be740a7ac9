"""The console script ends at once, and loses nothing."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys
import webhook.cli.main

def command_line():
{body}

webhook.cli.main.main = command_line
from webhook.cli.entry_point import main
main()
"""


def run(body: str, **streams: int) -> subprocess.CompletedProcess[str]:
    """Run the script with a command line of this body."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    code = CODE.replace("{body}", indented)
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run([sys.executable, "-c", code], check=False, text=True, timeout=60, **given)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("code", [0, 1, 3])
def test_all_that_was_written_arrives_with_the_exit_code(code: int) -> None:
    """Output larger than any buffer reaches a pipe completely, and the exit code is the command's."""
    done = run(f"sys.stdout.write('x' * 300_000); sys.stderr.write('last words'); sys.exit({code})")
    assert (done.returncode, len(done.stdout), done.stderr) == (code, 300_000, "last words")


def test_exit_functions_run() -> None:
    """Functions registered with atexit run, such as those that flush a library's queues."""
    done = run("import atexit; atexit.register(print, 'goodbye'); sys.exit(0)")
    assert done.stdout == "goodbye\n"


def test_a_running_thread_is_awaited() -> None:
    """The work of a migration's own thread is not cut off."""
    done = run("import threading; threading.Timer(0.05, print, ['worked']).start(); sys.exit(0)")
    assert (done.returncode, done.stdout) == (0, "worked\n")


@pytest.mark.parametrize(("code", "ends"), [(0, 1), (3, 3)])
@pytest.mark.parametrize("write", ["sys.stdout.write('lost')", "click.echo('lost')"])
def test_output_that_cannot_be_written_is_a_failure(write: str, code: int, ends: int) -> None:
    """With a full disk behind standard output the run goes on; then it is exit 1, or the command's own code."""
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = run(f"import click; {write}; sys.stderr.write('done, '); sys.exit({code})", stdout=full.fileno())
    assert done.returncode == ends
    if code == 0:
        assert done.stderr == "done, error: the output could not be written: No space left on device\n"


@pytest.mark.parametrize("write", ["sys.stdout.write('x' * 300_000)", "click.echo('x')", "click.echo(b'x' * 300_000)"])
def test_a_reader_that_is_gone_changes_nothing(write: str) -> None:
    """As in `ledgergate ... | head -1`: what follows is done, and the exit code is the command's."""
    reader, writer = os.pipe()
    os.close(reader)
    done = run(f"import click; {write}; {write}; sys.stderr.write('done'); sys.exit(3)", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (3, "done")


def test_a_process_without_standard_output_runs() -> None:
    """A process that is started with `>&-` runs, and exits 0."""
    code = "import webhook.cli.entry_point as e; e.main()"
    command = f"exec {sys.executable} -c '{code}' migrate new --help >&-"
    done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_message_given_to_exit_is_shown() -> None:
    """`sys.exit` with a message prints it and exits 1."""
    done = run("sys.exit('wrong')")
    assert (done.returncode, done.stderr) == (1, "wrong\n")
