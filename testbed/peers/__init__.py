"""The migration tools that ledgergate is compared with: pinned here, installed into a cache outside the checkout."""

from testbed.peers.install import Found, find
from testbed.peers.tools import Step, Tool

__all__ = ["Found", "Step", "Tool", "find"]
