"""The admission server in a process of its own, with fixed LedgerGates and without a cluster.

python -m testbed.admission.serve PORT                    # without TLS, with less time for headers than by default
python -m testbed.admission.serve PORT CERTIFICATE KEY    # with TLS and the default limits
"""

import asyncio
import gc
import sys
from datetime import UTC, datetime

import uvloop

from certs import tls
from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.admission.connections import Limits
from webhook.admission.handlers import Admission
from webhook.admission.listener import connection_limit, raise_file_limit
from webhook.admission.server import COLLECTION_THRESHOLDS, AdmissionServer, Site, serving
from webhook.core.gate import Action, Gate, Mode, Policy
from webhook.core.selector import Selector
from webhook.settings import Endpoint
from webhook.telemetry import Telemetry

REVISIONS = ("20260101000000_users", "20260102000000_orders")
LEDGER = Ledger.of([Record(REVISIONS[0], State.APPLIED)])


class FixedGates:
    """A gate of each kind, all of which select every pod."""

    synced = True

    def __init__(self) -> None:
        policies = (
            Policy(),
            Policy(mode=Mode.AUDIT),
            Policy(on_behind=Action.DENY, on_undeclared=Action.HOLD),
            Policy(on_unreachable=Action.DENY),
        )
        self._gates = [
            Gate("ns", f"gate-{number}", Selector(), "pg", "ledgergate", policy=policy)
            for number, policy in enumerate(policies)
        ]

    def selecting(self, namespace: str, labels: object) -> list[Gate]:
        """Return the gates: one, or all of them."""
        del labels
        return self._gates[: 1 + len(namespace) % len(self._gates)]

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return a ledger that has the first revision; the last gate's cannot be read."""
        fault = Fault.UNREACHABLE if gate is self._gates[-1] else None
        return LedgerSnapshot(LEDGER, datetime(2026, 1, 26, tzinfo=UTC), fault)


async def serve(port: int, *pair: str) -> None:
    """Serve until the process is killed."""
    view = FixedGates()
    server = AdmissionServer(Admission(view, view, lambda: datetime.now(UTC)), view, Telemetry())
    context, limits = None, Limits(header_seconds=5.0)
    if pair:
        context, limits = tls.server_context(), Limits(connections=connection_limit(raise_file_limit()))
        context.load_cert_chain(*pair)
    async with serving(Site(server.handle, Endpoint("127.0.0.1", port), context, limits)):
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    gc.freeze()  # as `ledgergate webhook` does
    gc.set_threshold(*COLLECTION_THRESHOLDS)
    uvloop.run(serve(int(sys.argv[1]), *sys.argv[2:]))
