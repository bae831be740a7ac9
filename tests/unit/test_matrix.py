"""`make matrix` runs every version, whatever fails, and each Kubernetes is what its go.mod pins."""

import json
from pathlib import Path

import pytest

from testbed import matrix
from testbed.controlplane import ALL, Unavailable, minors
from testbed.controlplane.minors import MODULE
from testbed.controlplane.pins import read_pins
from testbed.controlplane.provision import cached, find
from testbed.matrix import Outcome, Version, counted

REPORT = """<testsuites><testsuite>
<testcase classname="tests.unit.test_a" name="test_passes"/>
<testcase classname="tests.unit.test_a" name="test_fails"><failure message="x"/></testcase>
<testcase classname="tests.unit.test_a" name="test_fails"><error message="its teardown"/></testcase>
<testcase classname="tests.unit.test_a" name="test_breaks"><error message="setup"/></testcase>
<testcase classname="tests.unit.test_a" name="test_waits"><skipped message="since PostgreSQL 15"/></testcase>
</testsuite></testsuites>"""
OLDER = sorted(set(minors.minors().values()) - {MODULE})


def test_a_report_is_counted() -> None:
    """A test that fails and whose teardown fails is one failure; an error in a fixture is one, too."""
    assert counted(REPORT) == (1, ("tests.unit.test_a::test_fails", "tests.unit.test_a::test_breaks"), 1)


def test_every_supported_version_is_in_the_matrix() -> None:
    """PostgreSQL 13 to 18 and Kubernetes 1.30 to 1.37, which the README promises; the tests that each runs exist."""
    wanted = [*(f"postgres-{major}" for major in range(13, 19)), *(f"kubernetes-1.{minor}" for minor in range(30, 38))]
    assert [version.key for version in matrix.versions()] == wanted
    for version in matrix.versions():
        assert version.exact.startswith(f"{version.name}.")
        assert [path for path in version.tests if not (matrix.RESULTS.parents[1] / path).exists()] == []


def test_a_failure_does_not_end_the_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each version is run and recorded, others' records stay, the failures are named, and the exit status is 1."""
    results = tmp_path / "matrix.json"
    results.write_text('{"postgres-17": {"passed": 7}}')
    failures: dict[str, tuple[str, ...]] = {"postgres-13": ("tests.a::test_b",), "postgres-14": ()}

    def run(version: Version) -> Outcome:
        return Outcome(version.exact, "2026-01-01", 3, failures[version.key], 1, 60)

    monkeypatch.setattr(matrix, "RESULTS", results)
    monkeypatch.setattr(matrix, "run", run)
    assert matrix.main([*failures]) == 1
    record = json.loads(results.read_text())
    assert {key: found["passed"] for key, found in record.items()} == {
        "postgres-17": 7,
        "postgres-13": 3,
        "postgres-14": 3,
    }
    assert "postgres-13: tests.a::test_b" in capsys.readouterr().out
    assert matrix.main(["postgres-14"]) == 0


def test_a_version_that_is_not_available_fails() -> None:
    """The matrix does not pass by leaving a version out."""

    def provide() -> None:
        raise Unavailable("no network")

    found = matrix.run(Version("kubernetes", "1.30", "1.30.14", ("tests",), minors.VARIABLE, provide))
    assert (found.passed, found.failed) == (0, ("not run: no network",))


@pytest.mark.parametrize("module", OLDER, ids=lambda module: module.name)
def test_each_minor_pins_its_own_release(module: Path) -> None:
    """Its three programs and all staging modules are of the minor version that the directory is named after."""
    text = (module / "go.mod").read_text()
    programs = read_pins(text).programs
    assert tuple(programs) == minors.PROGRAMS
    assert {program.version for program in programs.values()} == {f"v{minors.release(module)}"}
    assert minors.release(module).startswith(f"{module.name}.")
    replaced = [line.split()[-1] for line in text.splitlines() if " => " in line]
    assert len(replaced) > 25
    minor, _, patch = minors.release(module).split(".", 1)[1].partition(".")
    assert all(each.startswith(f"v0.{minor}.") and int(each.split(".")[2]) <= int(patch) for each in replaced)


def test_the_go_mod_of_a_minor_is_made_from_that_of_kubernetes() -> None:
    """Each staging module is replaced by its release; what Kubernetes replaces otherwise is not."""
    kubernetes = "replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\tk8s.io/x => k8s.io/x v1.0.0\n)\n"
    assert minors.staging_modules(kubernetes) == ["k8s.io/api"]
    text = minors.go_mod("v1.30.14", "1.26.0", {"k8s.io/api": "v0.30.14"})
    assert [line.strip() for line in text.splitlines() if " => " in line] == ["k8s.io/api => k8s.io/api v0.30.14"]
    assert read_pins(text).programs["kube-apiserver"].version == "v1.30.14"


def test_a_staging_module_that_lacks_a_release_is_of_the_one_before() -> None:
    """A module proxy may lack the release; a later one, a candidate or another minor version is not taken."""
    published = ["v0.29.99", "v0.30.9", "v0.30.10", "v0.30.13-rc.1", "v0.30.15"]
    assert minors.staged_release("v1.30.14", published) == "v0.30.10"
    assert minors.staged_release("v1.30.14", [*published, "v0.30.14"]) == "v0.30.14"
    assert minors.staged_release("v1.30.14", []) == "v0.30.14"


def programs_of(directory: Path, names: tuple[str, ...]) -> None:
    """Write something that may be run for each name."""
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)


def test_a_minor_has_its_own_programs_and_the_newest_others(tmp_path: Path) -> None:
    """LEDGERGATE_KUBERNETES names it: KUBEBUILDER_ASSETS does not count; etcd, kubectl and kwok are the newest's."""
    module = OLDER[0]
    environment = {
        "LEDGERGATE_CACHE": str(tmp_path),
        "KUBEBUILDER_ASSETS": str(tmp_path / "assets"),
        minors.VARIABLE: module.name,
    }
    programs_of(tmp_path / "assets", ALL)
    newest, own = cached(MODULE, environment), cached(module, environment)
    programs_of(newest, ALL)
    programs_of(own, minors.PROGRAMS)
    for _ in range(2):  # the second time the links are there
        found = find(ALL, progress=pytest.fail, environment=environment)
        assert found.directory == own
        assert {name: (own / name).resolve().parent for name in ALL} == {
            name: own if name in minors.PROGRAMS else newest for name in ALL
        }
        assert {path.name for path in own.iterdir()} == set(ALL)
    assert find(ALL, progress=pytest.fail, environment={**environment, minors.VARIABLE: "1.37"}).directory == newest


def test_an_unknown_minor_is_refused() -> None:
    """The message names those that there are."""
    with pytest.raises(Unavailable, match=r"LEDGERGATE_KUBERNETES: expected 1\.30 or .* or 1\.37, got '1\.29'"):
        find(ALL, progress=pytest.fail, environment={minors.VARIABLE: "1.29"})
