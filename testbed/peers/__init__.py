"""The migration tools that ledgergate is compared with: pinned here, installed into a cache outside the checkout."""

from testbed.peers.install import InstalledPeers, find
from testbed.peers.tools import Peer, Step

__all__ = ["InstalledPeers", "Peer", "Step", "find"]
