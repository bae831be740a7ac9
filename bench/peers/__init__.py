"""The migration tools that ledgergate is compared with: pinned here, installed into the cache outside the checkout."""

from bench.peers.install import Found, find
from bench.peers.tools import Step, Tool

__all__ = ["Found", "Step", "Tool", "find"]
