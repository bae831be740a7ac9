"""`ledgergate status`, `bypass` and `release`: usage, and how they find the API server."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from webhook.cli import tables
from webhook.cli.bypass import Duration
from webhook.cli.main import main
from webhook.cli.release import _report
from webhook.cli.uninstall import GUARDS, ReleaseResult
from webhook.core.overview import GateRow, Overview, PodRow
from webhook.kube.errors import ClusterError, Forbidden, Unavailable
from webhook.kube.kubeconfig import ClusterTarget, KubeconfigError, connect_to


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("LEDGERGATE_", "KUBE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("bypass", "app"), ("expected --for", "expected --reason")),
        (("bypass", "app", "--for", "25h", "--reason", "x"), ("24h at most", "mode: Audit")),
        (("bypass", "app", "--for", "0s", "--reason", "x"), ("more than 0s",)),
        (("bypass", "app", "--for", "soon", "--reason", "x"), ("expected a duration such as 90s",)),
        (("bypass", "app", "--for", "1h", "--reason", " "), ("expected --reason",)),
        (("bypass", "app", "--for", "1h", "--reason", "x" * 257), ("256 characters at most, got 257",)),
        (("bypass", "app", "--end", "--for", "1h"), ("expected --end alone, got --for too",)),
        (("bypass",), ("GATE",)),
        (("release",), ("expected --all",)),
        (("release", "--all", "--uninstall", "-n", "shop"), ("whole cluster",)),
        (("status", "-o", "xml"), ("table", "json")),
    ],
)
def test_bad_usage_reports_every_problem(arguments: tuple[str, ...], says: tuple[str, ...]) -> None:
    """Exit 2 with every problem at once, without a request to any cluster."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2, done.output
    for text in says:
        assert text in done.output


@pytest.mark.parametrize("command", ["status", "bypass", "release"])
def test_every_flag_has_its_twin(command: str) -> None:
    """--help shows the environment twin of each flag."""
    done = CliRunner().invoke(main, [command, "--help"])
    shown = " ".join(done.output.split())
    found = main.get_command(click.Context(main), command)
    assert found
    for option in found.params:
        if isinstance(option, click.Option):
            (name,) = (name.removeprefix("--") for name in option.opts if name.startswith("--"))
            assert name == "help" or f"env var: LEDGERGATE_{name.replace('-', '_').upper()}" in shown


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("1h30m", timedelta(minutes=90)),
        ("1h1m1s", timedelta(seconds=3661)),
    ],
)
def test_the_type_of_for_reads_a_duration(text: str, duration: timedelta) -> None:
    """Units as Kubernetes writes them."""
    assert Duration().convert(text, None, None) == duration


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "1.5h", "1h 30m", "٣m"])
def test_the_type_of_for_refuses_other_texts(text: str) -> None:
    """The message shows durations that are accepted."""
    with pytest.raises(click.BadParameter, match="expected a duration"):
        Duration().convert(text, None, None)


async def test_without_any_cluster_the_flags_are_named() -> None:
    """Without a kubeconfig and outside a pod, the error names the flag and the variable."""
    with pytest.raises(KubeconfigError, match="--kubeconfig or KUBECONFIG"):
        async with connect_to(ClusterTarget()):
            pass


@pytest.mark.parametrize("content", ["{]", "", "[]", "current-context: x\ncontexts: []", "\0"])
async def test_a_broken_kubeconfig_is_named(content: str, tmp_path: Path) -> None:
    """However it is broken, the error names the file."""
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(KubeconfigError, match=str(path)):
        async with connect_to(ClusterTarget(kubeconfig=path)):
            pass


async def test_a_context_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped --context never falls back to another cluster."""
    path = tmp_path / "config"
    cluster = "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\n"
    path.write_text(f"current-context: x\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n{cluster}")
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(KubeconfigError, match="nosuch"):
        async with connect_to(ClusterTarget(context="nosuch")):
            pass


def test_the_hold_is_deleted_before_the_guard() -> None:
    """Without the validating webhook a pod could still be created with a gate that nothing judges or releases."""
    kinds = [name.partition("/")[0] for name in GUARDS]
    assert kinds == [
        "mutatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicybindings",
        "validatingadmissionpolicies",
        "validatingwebhookconfigurations",
    ]


@pytest.mark.parametrize(
    ("error", "namespace", "present", "absent"),
    [
        (Forbidden("403: no"), None, ("-n NAMESPACE", "bypass GATE", "--uninstall"), ("run it again",)),
        (Forbidden("403: no"), "shop", ("bypass GATE", "--uninstall"), ("-n NAMESPACE", "run it again")),
        (Unavailable('500: failed calling webhook "v"'), None, ("--uninstall",), ("-n NAMESPACE", "run it again")),
        (Unavailable("503: busy"), None, ("run it again",), ("--uninstall",)),
    ],
)
def test_a_release_that_failed_says_why_and_what_to_do(
    error: ClusterError,
    namespace: str | None,
    present: tuple[str, ...],
    absent: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit 1, the pod and its error, and advice that fits the cause."""
    assert _report(ReleaseResult(refused={("shop", "pod"): error}), namespace) == 1
    shown = capsys.readouterr().err
    assert f"shop/pod: {error}" in shown
    assert all(text in shown for text in present)
    assert not any(text in shown for text in absent)


def test_plain_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal: no colours, no trailing blanks, values under their heading, so that `awk` can read them."""
    overview = Overview(
        (GateRow("shop", "a-long-name", "knex", None, None, "Unknown", 0, None),),
        (PodRow("shop", "gateway-1", ("a", "b"), "Behind", "why", None),),
    )
    tables.print_overview(overview, datetime(2026, 1, 26, tzinfo=UTC), where="in namespace shop")
    lines = capsys.readouterr().out.splitlines()
    assert all(line == line.rstrip() and line.isprintable() for line in lines)
    heading, gate = lines[0], lines[1]
    assert gate.index("Unknown") == heading.index("STATE")
    assert "a,b" in lines[-1]
