"""Tests of what helm installs: ledgergate from its chart, and the mission's application beside it, on one plane."""
