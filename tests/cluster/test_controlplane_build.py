"""Building with Go: two concurrent runs build once, and the error of a failed build has the output of Go."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.controlplane import Unavailable
from testbed.controlplane.provision import find

CHECKOUT = Path(__file__).parents[2]
MAIN = """
package main

import "fmt"

func main() { fmt.Println("hello") }
"""
RUN = """
import sys
from pathlib import Path
from testbed.controlplane.provision import find
cache, module = sys.argv[1:]
found = find(["hello"], progress=print, environment={"LEDGERGATE_CACHE": cache}, module=Path(module), interval=0.1)
print("origin:", found.origins["hello"])
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A module whose tool is the tiny program `hello` of a replaced module, as small as a build can be."""
    if shutil.which("go") is None:
        pytest.skip("needs go on PATH; to fetch one for this test alone is too much")
    home, hello = tmp_path / "module", tmp_path / "hello"
    for directory in (home, hello):
        directory.mkdir()
    (hello / "go.mod").write_text("module example.org/hello\n\ngo 1.24\n")
    (hello / "main.go").write_text(MAIN)
    (home / "go.mod").write_text(
        "module example.org/tools\n\ngo 1.24\n\ntool example.org/hello\n\n"
        "require example.org/hello v0.0.0\n\nreplace example.org/hello => ../hello\n"
    )
    (home / "go.sum").touch()
    return home


def test_two_runs_build_once(module: Path, tmp_path: Path) -> None:
    """Of two runs that start at once one builds; both have the program, and a third finds it in the cache."""
    cache = tmp_path / "cache"
    command: list[str | Path] = [sys.executable, "-c", RUN, cache, module]
    runs = [subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert "".join(said).count("built hello (1 of 1) in") == 1
    found = find(["hello"], progress=pytest.fail, environment={"LEDGERGATE_CACHE": str(cache)}, module=module)
    assert found.origins == {"hello": "cache"}
    assert subprocess.run([found.directory / "hello"], check=True, capture_output=True).stdout == b"hello\n"
    assert sorted(path.name for path in found.directory.iterdir()) == [".hello.lock", "hello"]


def test_failed_build_says_why(module: Path, tmp_path: Path) -> None:
    """A program that does not compile is Unavailable, with Go's own words and place, and nothing half is kept."""
    (module.parent / "hello" / "main.go").write_text("package main\n\nfunc main() { nonsense }\n")
    cache = tmp_path / "cache"
    with pytest.raises(Unavailable, match=r"(?s)go build example.org/hello failed:.*main.go:3:15: undefined: nonsense"):
        find(["hello"], progress=lambda _: None, environment={"LEDGERGATE_CACHE": str(cache)}, module=module)
    assert [name for _, _, names in os.walk(cache) for name in names] == [".hello.lock"]
